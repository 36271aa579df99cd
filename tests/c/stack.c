/* Calls on a thread with 32 KiB of stack, below which lies a page that may not be touched: each takes at most 16. */
#define _GNU_SOURCE
#include <adamw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STACK = 32 * 1024, MOST = 16 * 1024, GUARD = 4096, UNTOUCHED = 0xa5, N = 5000 };

static char path[] = "/tmp/adamw-stack-XXXXXX";
static double param[N], grad[N]; /* any bytes that are finite in every type */
static adamw_optimizer *optimizer;
static adamw_config config;

static adamw_status create(void) { return adamw_create(&config, &optimizer); }
static adamw_status step(void) { return adamw_step(optimizer); }
static adamw_status step_together(void) {
  adamw_status status = adamw_step_begin(optimizer);
  return status ? status : adamw_step_end(optimizer);
}
static adamw_status save(void) { return adamw_save(optimizer, path); }
static adamw_status load(void) { return adamw_load(optimizer, path, NULL); }
static adamw_status refused(void) {
  return adamw_set_lr(optimizer, -1e-300) == ADAMW_STATUS_INVALID_ARGUMENT ? ADAMW_STATUS_OK
                                                                           : ADAMW_STATUS_INTERNAL;
}

static struct call {
  const char *name;
  adamw_status (*call)(void);
  long most;
} calls[] = {{"create", create, 0}, {"step", step, 0}, {"save", save, 0}, {"load", load, 0},
             {"a refused call", refused, 0},
             {"a step that is begun and ended", step_together, 0}};
enum { CREATE, STEP, OTHERS, N_CALLS = sizeof calls / sizeof calls[0] };

struct work {
  adamw_status (*call)(void);
  adamw_status status;
  char *top;
};

static void *run(void *data) {
  struct work *work = data;
  char here = 0;
  work->top = &here;
  work->status = work->call();
  return NULL;
}

static adamw_status measured(struct call *call) {
  struct work work = {call->call, ADAMW_STATUS_INTERNAL, NULL};
  pthread_attr_t attributes;
  pthread_t thread;
  char *memory = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  long untouched = 0;
  if (memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE))
    abort();
  memset(memory + GUARD, UNTOUCHED, STACK);
  pthread_attr_init(&attributes);
  if (pthread_attr_setstack(&attributes, memory + GUARD, STACK) ||
      pthread_create(&thread, &attributes, run, &work) || pthread_join(thread, NULL))
    abort();
  while ((unsigned char)memory[GUARD + untouched] == UNTOUCHED)
    untouched++;
  long bytes = work.top - (memory + GUARD + untouched);
  call->most = bytes > call->most ? bytes : call->most;
  munmap(memory, GUARD + STACK);
  return work.status;
}

/* Every format, for the bits of `row`; combinations that there are not are passed over. */
static adamw_status start(unsigned row) {
  static const adamw_dtype dtypes[4] = {ADAMW_DTYPE_F32, ADAMW_DTYPE_F64, ADAMW_DTYPE_F16,
                                        ADAMW_DTYPE_BF16};
  const adamw_dtype dtype = dtypes[row & 3], grads = row & 4 ? ADAMW_DTYPE_F32 : dtype;
  uint32_t number;
  adamw_config_init(&config, sizeof config);
  config.num_threads = 1;
  config.moments = row >> 3 & 3;
  config.precision = row >> 5 & 3;
  config.multi_precision = row >> 7 & 1;
  config.amsgrad = row >> 8 & 1;
  if (row >> 9 & 1) {
    config.clip = ADAMW_CLIP_VALUE;
    config.clip_min = -1;
    config.clip_max = 1;
  }
  config.nonfinite = row >> 10 & 1 ? ADAMW_NONFINITE_SKIP : ADAMW_NONFINITE_PROPAGATE;
  config.isa = ADAMW_ISA_PORTABLE + (row >> 12) % 3;
  adamw_status status = measured(&calls[CREATE]);
  if (status != ADAMW_STATUS_OK)
    return status;
  status = adamw_add_array(optimizer, "w", param, N, dtype, &number);
  if (status == ADAMW_STATUS_OK)
    status = adamw_set_grad_array(optimizer, number, grad, N, grads);
  if (status == ADAMW_STATUS_OK)
    status = adamw_set_statistics(optimizer, row >> 11 & 1);
  if (status != ADAMW_STATUS_OK)
    adamw_destroy(optimizer);
  return status;
}

int main(void) {
  int file = mkstemp(path), n_failed = 0, n_rows = 0;
  if (file < 0 || close(file))
    return 1;
  memset(param, 0x3e, sizeof param);
  memset(grad, 0x3a, sizeof grad);
  for (unsigned row = 0; row < 3u << 12; row++) {
    if (start(row) != ADAMW_STATUS_OK)
      continue;
    /* The first step starts what the second one has. */
    n_failed += measured(&calls[STEP]) != ADAMW_STATUS_OK;
    n_failed += measured(&calls[STEP]) != ADAMW_STATUS_OK;
    for (int i = OTHERS; i < N_CALLS && n_rows % 200 == 0; i++)
      n_failed += measured(&calls[i]) != ADAMW_STATUS_OK;
    n_rows++;
    adamw_destroy(optimizer);
  }
  unlink(path);
  for (int i = 0; i < N_CALLS; i++) {
    printf("%s: %ld bytes\n", calls[i].name, calls[i].most);
    n_failed += calls[i].most == 0 || calls[i].most > MOST;
  }
  if (n_failed > 0 || n_rows < 500)
    fprintf(stderr, "%d failures in %d rows (last error: %s)\n", n_failed, n_rows, adamw_last_error());
  return n_failed > 0 || n_rows < 500;
}
