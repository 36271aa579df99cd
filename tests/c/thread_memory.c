/* Loaded while the program runs, the library asks for no memory when a thread makes its first call: none that an
   allocator would end the process for, and none that the call needs. usage: thread_memory path/to/libadamw.so */
#define _GNU_SOURCE
#include "loaded.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

/* Of this thread. */
static _Thread_local int has_no_memory, n_refused;

static int refuse(void) {
  n_refused += has_no_memory;
  errno = has_no_memory ? ENOMEM : errno;
  return has_no_memory;
}

void *malloc(size_t bytes) { return refuse() ? NULL : __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) {
  return refuse() ? NULL : __libc_calloc(count, bytes);
}
void *realloc(void *block, size_t bytes) {
  return refuse() ? NULL : __libc_realloc(block, bytes);
}
void *memalign(size_t alignment, size_t bytes) {
  return refuse() ? NULL : __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

static struct loaded adamw;
static adamw_optimizer *optimizer;
static const char *problem;

static int32_t ratio(const adamw_param_info *param, double *out_ratio, void *user_data) {
  (void)param, (void)user_data;
  *out_ratio = 1;
  return 0;
}

static void *first_calls(void *unused) {
  has_no_memory = 1;
  if (adamw.step(optimizer) != ADAMW_STATUS_OK || n_refused > 0)
    problem = "a step asks for memory";
  else if (adamw.step(NULL) != ADAMW_STATUS_BAD_HANDLE)
    problem = "a refused call has another status";
  else if (!strstr(adamw.last_error(), "out of memory"))
    problem = "the text of an error that there was no memory for does not say so";
  has_no_memory = 0;
  if (!problem &&
      (adamw.step(NULL) != ADAMW_STATUS_BAD_HANDLE || !strstr(adamw.last_error(), "NULL")))
    problem = "with memory again an error has no text";
  return unused;
}

int main(int argc, char **argv) {
  static float param[100], grad[100];
  uint32_t number;
  pthread_t thread;
  adamw_config config;
  if (argc != 2) {
    fprintf(stderr, "usage: %s path/to/libadamw.so\n", argv[0]);
    return 2;
  }
  const char *missing = load(argv[1], &adamw);
  if (missing) {
    fprintf(stderr, "%s\n", missing);
    return 2;
  }
  if (adamw.config_init(&config, sizeof config) || adamw.create(&config, &optimizer) ||
      adamw.add_array(optimizer, "w", param, 100, ADAMW_DTYPE_F32, &number) ||
      adamw.set_grad_array(optimizer, number, grad, 100, ADAMW_DTYPE_F32) ||
      adamw.set_lr_ratio(optimizer, ratio, NULL))
    return 2;
  if (pthread_create(&thread, NULL, first_calls, NULL) || pthread_join(thread, NULL))
    return 2;
  if (problem)
    fprintf(stderr, "%s (last error: %s)\n", problem, adamw.last_error());
  return problem != NULL || adamw.destroy(optimizer) != ADAMW_STATUS_OK;
}
