/* Any allocation may fail: the call says OUT_OF_MEMORY, changes and leaks nothing, and succeeds
   when it is tried again. */
#define _GNU_SOURCE
#include "fail_alloc.h"
#include <adamw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* BIG elements have state on pages of its own, SMALL ones in the allocator. */
enum { BIG = 530000, SMALL = 1000, CODED = 5000, TINY = 26, ROLES = 6, KINDS = 4 };

struct memory {
  float big[BIG], big_grad[BIG];
  float tiny[TINY];
  uint16_t coded[CODED], coded_grad[CODED]; /* bf16 */
  /* By element type: param, grad, master, exp_avg, exp_avg_sq, max_exp_avg_sq. */
  double hosts[KINDS][ROLES][SMALL], librarys[KINDS][2][SMALL], moved[SMALL];
};

/* Where the steps of a run work. */
struct threads {
  const char *name;
  uint32_t num_threads;
  adamw_parallel_for parallel_for;
};

struct run {
  struct memory memory;
  adamw_optimizer *optimizer, *of_team;
  adamw_team *team;
  struct threads threads;
  uint32_t group;
  uint32_t numbers[2 * KINDS + 1], coded_group, coded;
};

static const struct kind {
  adamw_dtype dtype;
  adamw_data_type described, state;
  const char *hosts, *librarys; /* names: of the parameter with the host's state, and without */
} kinds[KINDS] = {
    {ADAMW_DTYPE_F32, {2, 32, 1}, {2, 32, 1}, "f32 host", "f32"},
    {ADAMW_DTYPE_F64, {2, 64, 1}, {2, 64, 1}, "f64 host", "f64"},
    {ADAMW_DTYPE_F16, {2, 16, 1}, {2, 32, 1}, "f16 host", "f16"},
    {ADAMW_DTYPE_BF16, {4, 16, 1}, {2, 32, 1}, "bf16 host", "bf16"},
};

static int n_loops;

static int32_t loop(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  (void)user_data;
  n_loops++;
  for (size_t i = 0; i < num_tasks; i++)
    task(task_data, i);
  return 0;
}

static int32_t no_decay_of_f32(const char *name, void *user_data) {
  (void)user_data;
  return strcmp(name, "f32") != 0;
}

/* The calls of a run. Each may be made again if it failed. */

static adamw_status create(struct run *run, int unused) {
  adamw_config config;
  (void)unused;
  adamw_config_init(&config, sizeof config);
  config.amsgrad = config.multi_precision = 1;
  config.lazy_mode = ADAMW_LAZY_EXACT;
  config.num_threads = run->threads.num_threads;
  config.parallel_for = run->threads.parallel_for;
  return adamw_create(&config, &run->optimizer);
}

static adamw_status create_team(struct run *run, int num_threads) {
  return adamw_team_create((uint32_t)num_threads, &run->team);
}

static adamw_status create_of_team(struct run *run, int unused) {
  adamw_config config;
  (void)unused;
  adamw_config_init(&config, sizeof config);
  config.team = run->team;
  return adamw_create(&config, &run->of_team);
}

static adamw_status destroy_of_team(struct run *run, int unused) {
  (void)unused;
  return adamw_destroy(run->of_team);
}

static adamw_status destroy_team(struct run *run, int unused) {
  (void)unused;
  return adamw_team_destroy(run->team);
}

static adamw_status begin_step(struct run *run, int unused) {
  (void)unused;
  return adamw_step_begin(run->optimizer);
}

static adamw_status work_on_step(struct run *run, int unused) {
  (void)unused;
  return adamw_step_work(run->optimizer);
}

static adamw_status end_step(struct run *run, int unused) {
  (void)unused;
  return adamw_step_end(run->optimizer);
}

static adamw_status add_group(struct run *run, int unused) {
  adamw_group_config group;
  (void)unused;
  adamw_group_config_init(run->optimizer, &group, sizeof group);
  group.lr_scale = 2;
  return adamw_add_group(run->optimizer, &group, &run->group);
}

static adamw_tensor describe(void *data, adamw_data_type dtype) {
  static int64_t shape[1] = {SMALL};
  return (adamw_tensor){data, {1, 0}, 1, dtype, shape, NULL, 0};
}

static adamw_status add_hosts(struct run *run, int kind) {
  adamw_tensor tensors[ROLES];
  for (int role = 0; role < ROLES; role++)
    tensors[role] = describe(run->memory.hosts[kind][role],
                             role < 2 ? kinds[kind].described : kinds[kind].state);
  const adamw_param_config config = {.struct_size = sizeof config,
                                     .name = kinds[kind].hosts,
                                     .param = &tensors[0],
                                     .master =
                                         kinds[kind].described.bits == 16 ? &tensors[2] : NULL,
                                     .exp_avg = &tensors[3],
                                     .exp_avg_sq = &tensors[4],
                                     .max_exp_avg_sq = &tensors[5],
                                     .group = run->group};
  return adamw_add_param(run->optimizer, &config, &run->numbers[kind]);
}

static adamw_status add_array(struct run *run, int kind) {
  return adamw_add_array(run->optimizer, kinds[kind].librarys, run->memory.librarys[kind][0], SMALL,
                         kinds[kind].dtype, &run->numbers[KINDS + kind]);
}

static adamw_status add_big(struct run *run, int unused) {
  (void)unused;
  return adamw_add_array(run->optimizer, "big", run->memory.big, BIG, ADAMW_DTYPE_F32,
                         &run->numbers[2 * KINDS]);
}

/* A group whose parameters are rounded at random and have 8-bit moments. */
static adamw_status add_coded_group(struct run *run, int unused) {
  adamw_group_config group;
  (void)unused;
  adamw_group_config_init(run->optimizer, &group, sizeof group);
  group.precision = ADAMW_PRECISION_STOCHASTIC;
  group.moments = ADAMW_MOMENTS_8BIT;
  group.clip = ADAMW_CLIP_NORM;
  group.clip_norm = 1;
  return adamw_add_group(run->optimizer, &group, &run->coded_group);
}

static adamw_status add_coded(struct run *run, int unused) {
  static int64_t shape[1] = {CODED};
  const adamw_tensor param = {run->memory.coded, {1, 0}, 1, {4, 16, 1}, shape, NULL, 0};
  const adamw_param_config config = {
      .struct_size = sizeof config, .name = "coded", .param = &param, .group = run->coded_group};
  (void)unused;
  return adamw_add_param(run->optimizer, &config, &run->coded);
}

static adamw_status set_coded_grad(struct run *run, int unused) {
  (void)unused;
  return adamw_set_grad_array(run->optimizer, run->coded, run->memory.coded_grad, CODED,
                              ADAMW_DTYPE_BF16);
}

static adamw_status grad_ready(struct run *run, int unused) {
  (void)unused;
  return adamw_grad_ready(run->optimizer, run->coded);
}

static adamw_status big_grad_ready(struct run *run, int unused) {
  (void)unused;
  return adamw_grad_ready(run->optimizer, run->numbers[2 * KINDS]);
}

static adamw_status step_coded(struct run *run, int unused) {
  (void)unused;
  return adamw_step_param(run->optimizer, run->coded);
}

/* Enough parameters for tables to grow, those that are missing. */
static adamw_status add_tiny(struct run *run, int unused) {
  (void)unused;
  for (int i = 0; i < TINY; i++) {
    char name[16];
    uint32_t number;
    adamw_status status;
    snprintf(name, sizeof name, "tiny %d", i);
    if (adamw_find_param(run->optimizer, name, &number) == ADAMW_STATUS_OK)
      continue;
    status =
        adamw_add_array(run->optimizer, name, &run->memory.tiny[i], 1, ADAMW_DTYPE_F32, &number);
    if (status != ADAMW_STATUS_OK)
      return status;
  }
  return ADAMW_STATUS_OK;
}

/* Needs no memory that it cannot do without. */
static adamw_status remove_tiny(struct run *run, int unused) {
  (void)unused;
  for (int i = 0; i < TINY; i++) {
    char name[16];
    uint32_t number;
    adamw_status status;
    snprintf(name, sizeof name, "tiny %d", i);
    status = adamw_find_param(run->optimizer, name, &number);
    if (status == ADAMW_STATUS_OK)
      status = adamw_remove_param(run->optimizer, number);
    if (status != ADAMW_STATUS_OK)
      return ADAMW_STATUS_INTERNAL;
  }
  return ADAMW_STATUS_OK;
}

static adamw_status set_filter(struct run *run, int unused) {
  (void)unused;
  return adamw_set_decay_filter(run->optimizer, no_decay_of_f32, NULL);
}

/* A chain of two schedules with arrays. */
static adamw_status set_schedule(struct run *run, int total_steps) {
  static const uint64_t boundaries[2] = {2, 4};
  static const double values[3] = {0.1, 0.2, 0.3};
  const adamw_schedule piecewise = {.struct_size = sizeof piecewise,
                                    .kind = ADAMW_SCHEDULE_PIECEWISE,
                                    .boundaries = boundaries,
                                    .n_boundaries = 2,
                                    .values = values,
                                    .n_values = 3};
  const adamw_schedule cosine = {.struct_size = sizeof cosine,
                                 .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
                                 .lr = 0.1,
                                 .total_steps = (uint64_t)total_steps};
  const adamw_schedule *const parts[3] = {&piecewise, &cosine, &piecewise};
  const adamw_schedule chain = {.struct_size = sizeof chain,
                                .kind = ADAMW_SCHEDULE_CHAIN,
                                .boundaries = boundaries,
                                .n_boundaries = 2,
                                .schedules = parts,
                                .n_schedules = 3};
  double lrs[9];
  adamw_status status = adamw_schedule_trace(&chain, lrs, 9);
  return status == ADAMW_STATUS_OK ? adamw_set_lr_schedule(run->optimizer, &chain) : status;
}

static adamw_status set_grad(struct run *run, int unused) {
  (void)unused;
  return adamw_set_grad_array(run->optimizer, run->numbers[2 * KINDS], run->memory.big_grad, BIG,
                              ADAMW_DTYPE_F32);
}

static adamw_status set_grads(struct run *run, int unused) {
  adamw_tensor tensors[2 * KINDS];
  const adamw_tensor *grads[2 * KINDS];
  (void)unused;
  for (int i = 0; i < 2 * KINDS; i++) {
    int kind = i % KINDS;
    tensors[i] = describe(i < KINDS ? run->memory.hosts[kind][1] : run->memory.librarys[kind][1],
                          kinds[kind].described);
    grads[i] = &tensors[i];
  }
  return adamw_set_grads(run->optimizer, run->numbers, grads, 2 * KINDS);
}

/* `listed` rows of four elements of the f32 parameter with the library's state. */
static adamw_status set_rows(struct run *run, int listed) {
  static int64_t shape[1], rows[SMALL];
  shape[0] = listed;
  for (int i = 0; i < listed; i++)
    rows[i] = (i * 7) % (SMALL / 4);
  const adamw_tensor numbers = {rows, {1, 0}, 1, {0, 64, 1}, shape, NULL, 0};
  int64_t values_shape[2] = {listed, 4};
  const adamw_tensor values = {
      run->memory.big_grad, {1, 0}, 2, {2, 32, 1}, values_shape, NULL, 0};
  return adamw_set_sparse_grad(run->optimizer, run->numbers[KINDS], &numbers, &values);
}

static adamw_status prepare_rows(struct run *run, int listed) {
  static int64_t shape[1], rows[SMALL];
  shape[0] = listed;
  for (int i = 0; i < listed; i++)
    rows[i] = (i * 3) % (SMALL / 4);
  const adamw_tensor numbers = {rows, {1, 0}, 1, {0, 64, 1}, shape, NULL, 0};
  return adamw_sparse_prepare(run->optimizer, run->numbers[KINDS], &numbers);
}

static adamw_status flush_rows(struct run *run, int unused) {
  (void)unused;
  return adamw_sparse_flush(run->optimizer);
}

/* The group of the host's parameters, whose rows lag or do not. */
static adamw_status set_lazy(struct run *run, int lazy_mode) {
  adamw_group_config group = {.struct_size = sizeof group};
  adamw_status status = adamw_get_group(run->optimizer, run->group, &group, sizeof group);
  group.lazy_mode = (adamw_lazy)lazy_mode;
  return status == ADAMW_STATUS_OK ? adamw_set_group(run->optimizer, run->group, &group) : status;
}

/* Two rows of a parameter of that group. */
static adamw_status set_two_rows(struct run *run, int kind) {
  static int64_t rows[2] = {3, 8}, shape[1] = {2}, values_shape[2] = {2, 4};
  const adamw_tensor numbers = {rows, {1, 0}, 1, {0, 64, 1}, shape, NULL, 0};
  const adamw_tensor values = {
      run->memory.big_grad, {1, 0}, 2, {2, 32, 1}, values_shape, NULL, 0};
  return adamw_set_sparse_grad(run->optimizer, run->numbers[kind], &numbers, &values);
}

/* The host's part of a rebind. */
static adamw_status move(struct run *run, int unused) {
  (void)unused;
  memcpy(run->memory.moved, run->memory.hosts[0][3], sizeof run->memory.moved);
  return ADAMW_STATUS_OK;
}

static adamw_status rebind(struct run *run, int unused) {
  adamw_tensor to = describe(run->memory.moved, kinds[0].state);
  const adamw_tensor *const tensors[1] = {&to};
  const adamw_buffer buffers[1] = {ADAMW_BUFFER_EXP_AVG};
  (void)unused;
  return adamw_rebind(run->optimizer, &run->numbers[0], buffers, tensors, 1);
}

static adamw_status step(struct run *run, int unused) {
  (void)unused;
  return adamw_step(run->optimizer);
}

static adamw_status set_statistics(struct run *run, int statistics) {
  return adamw_set_statistics(run->optimizer, (uint32_t)statistics);
}

static adamw_status accumulate(struct run *run, int kind) {
  const adamw_tensor grad = describe(run->memory.hosts[kind][1], kinds[kind].described);
  return adamw_accumulate_grad(run->optimizer, run->numbers[KINDS + kind], &grad);
}

static adamw_status apply(struct run *run, int kind) {
  const adamw_tensor grad = describe(run->memory.hosts[kind][1], kinds[kind].described);
  const adamw_tensor *const grads[1] = {&grad};
  return adamw_apply_gradients(run->optimizer, &run->numbers[KINDS + kind], grads, 1);
}

static adamw_status sync_master(struct run *run, int kind) {
  return adamw_sync_master(run->optimizer, run->numbers[kind]);
}

static adamw_status clear_grad(struct run *run, int mode) {
  return adamw_clear_grad(run->optimizer, (adamw_clear)mode);
}

static adamw_status destroy(struct run *run, int unused) {
  (void)unused;
  return adamw_destroy(run->optimizer);
}

static const struct {
  const char *name;
  adamw_status (*call)(struct run *run, int argument);
  int argument;
} calls[] = {
    {"create", create, 0},
    {"team_create", create_team, 3},
    {"create with a team", create_of_team, 0},
    {"team_destroy", destroy_team, 0},
    {"destroy with a team", destroy_of_team, 0},
    {"add_group", add_group, 0},
    {"set_decay_filter without parameters", set_filter, 0},
    {"add_param f32", add_hosts, 0},
    {"add_param f64", add_hosts, 1},
    {"add_array f32", add_array, 0},
    {"add_array f64", add_array, 1},
    {"add_array of many elements", add_big, 0},
    {"add many", add_tiny, 0},
    {"set_statistics", set_statistics, 1},
    {"set_grad", set_grad, 0},
    {"step", step, 0},
    {"add_param f16", add_hosts, 2},
    {"add_param bf16", add_hosts, 3},
    {"add_array f16", add_array, 2},
    {"add_array bf16", add_array, 3},
    {"add another group", add_group, 0},
    {"set_decay_filter", set_filter, 0},
    {"set_lr_schedule", set_schedule, 5},
    {"add a group of codes", add_coded_group, 0},
    {"add_param with codes", add_coded, 0},
    {"set_grad of codes", set_coded_grad, 0},
    {"grad_ready of codes", grad_ready, 0},
    {"grad_ready of many elements", big_grad_ready, 0},
    {"remove many", remove_tiny, 0},
    {"step_param", step_coded, 0},
    {"set_grad of codes", set_coded_grad, 0},
    {"set_grads", set_grads, 0},
    {"sync_master of f16", sync_master, 2},
    {"sync_master of bf16", sync_master, 3},
    {"step", step, 0},
    {"set_sparse_grad", set_rows, 20},
    {"step", step, 0},
    {"set_sparse_grad of more rows", set_rows, 900},
    {"step", step, 0},
    {"sparse_prepare", prepare_rows, 1000},
    {"sparse_flush", flush_rows, 0},
    {"move", move, 0},
    {"rebind", rebind, 0},
    {"step", step, 0},
    {"set_group that lets no row lag", set_lazy, ADAMW_LAZY_OFF},
    {"set_sparse_grad of a parameter", set_two_rows, 0},
    {"set_sparse_grad of another", set_two_rows, 1},
    {"step", step, 0},
    {"set_group that lets rows lag", set_lazy, ADAMW_LAZY_EXACT},
    {"step", step, 0},
    {"sparse_flush", flush_rows, 0},
    {"step_begin", begin_step, 0},
    {"step_work", work_on_step, 0},
    {"step_end", end_step, 0},
    {"set another lr_schedule", set_schedule, 9},
    {"accumulate_grad", accumulate, 0},
    {"apply_gradients", apply, 0},
    {"step", step, 0},
    {"clear_grad to zero", clear_grad, ADAMW_CLEAR_ZERO},
    {"step", step, 0},
    {"clear_grad", clear_grad, ADAMW_CLEAR_FORGET},
    {"step", step, 0},
    {"destroy", destroy, 0},
};
enum { N_CALLS = sizeof calls / sizeof calls[0] };

static void start_run(struct run *run, struct threads threads) {
  memset(run, 0, sizeof *run);
  run->threads = threads;
  for (int i = 0; i < BIG; i++)
    run->memory.big[i] = (float)(i % 101) / 64, run->memory.big_grad[i] = (float)(i % 37) - 18;
  /* Any bytes that are finite in every element type do for the others. */
  memset(run->memory.coded, 0x3e, sizeof run->memory.coded);
  memset(run->memory.coded_grad, 0x3a, sizeof run->memory.coded_grad);
  for (int kind = 0; kind < KINDS; kind++)
    for (int role = 0; role < 2; role++) {
      memset(run->memory.hosts[kind][role], 0x30 + kind + role, sizeof run->memory.hosts[0][0]);
      memset(run->memory.librarys[kind][role], 0x32 + kind + role,
             sizeof run->memory.librarys[0][0]);
    }
}

static int n_failures;

static void wrong(const char *call, const char *what) {
  n_failures++;
  fprintf(stderr, "%s: %s (last error: %s)\n", call, what, adamw_last_error());
}

/* What a process that did one run tells the one that started it. */
static struct report {
  const char *call; /* the one it was in last */
  long n_failed;    /* allocations */
  long n_live;      /* blocks at the end: what the library keeps as long as it is loaded */
} *report;

/* Makes all calls of a run, and the one again that fails for want of memory. */
static void run_calls(struct run *run, struct threads threads, bool may_fail) {
  static struct memory before;
  start_run(run, threads);
  for (int i = 0; i < N_CALLS; i++) {
    report->call = calls[i].name;
    if (may_fail)
      before = run->memory;
    adamw_status status = calls[i].call(run, calls[i].argument);
    if (status == ADAMW_STATUS_OK)
      continue;
    if (!may_fail || status != ADAMW_STATUS_OUT_OF_MEMORY ||
        !strstr(adamw_last_error(), "out of memory"))
      wrong(calls[i].name, "expected ADAMW_STATUS_OUT_OF_MEMORY");
    if (memcmp(&before, &run->memory, sizeof before) != 0)
      wrong(calls[i].name, "failed and changed memory");
    fail_nothing();
    may_fail = false;
    if (calls[i].call(run, calls[i].argument) != ADAMW_STATUS_OK)
      wrong(calls[i].name, "failed again, with all memory there is");
  }
}

static int run_in_child(long first_to_fail, bool all_after, struct threads threads) {
  static struct run disturbed, undisturbed;
  *report = (struct report){.n_live = -1};
  adamw_step(NULL); /* from here on there is memory for texts */
  fail_alloc(first_to_fail, all_after);
  run_calls(&disturbed, threads, true);
  fail_nothing();
  report->n_failed = fail_n_failed();
  report->n_live = fail_n_live();
  run_calls(&undisturbed, threads, false);
  if (memcmp(&disturbed.memory, &undisturbed.memory, sizeof disturbed.memory) != 0)
    wrong("the run", "ended with other bits");
  if (threads.parallel_for && n_loops == 0)
    wrong("the run", "never used the host's parallel_for");
  return n_failures;
}

/* A process for each allocation, so that what the library keeps is allocated anew, and an abort
   ends one run only. Whether there was such an allocation. */
static bool run_once(long first_to_fail, bool all_after, struct threads threads, long *out_n_live) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    n_failures = 0;
    _exit(run_in_child(first_to_fail, all_after, threads) != 0);
  }
  waitpid(child, &status, 0);
  *out_n_live = report->n_live;
  if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return report->n_failed > 0;
  n_failures++;
  fprintf(stderr, "%s: without allocation %ld%s, %s %d in or after %s\n", threads.name,
          first_to_fail, all_after ? " and all after it" : "",
          WIFSIGNALED(status) ? "signal" : "exit status",
          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), report->call);
  return true;
}

static void every_allocation_may_fail(void) {
  static const struct threads rows[] = {
      {"one thread", 1, NULL},
      {"the host's parallel_for", 3, loop},
      {"two threads of the library's", 2, NULL},
  };
  enum { MOST = 1000 };
  for (int i = 0; i < 6; i++) {
    struct threads threads = rows[i / 2];
    bool all_after = i % 2;
    long number = 0, n_kept, n_live;
    run_once(LONG_MAX, all_after, threads, &n_kept);
    while (number < MOST && run_once(number, all_after, threads, &n_live)) {
      if (n_live >= 0 && n_live != n_kept) /* negative: it did not come to its end */
        wrong(threads.name, "a failed call leaked");
      number++;
    }
    if (number == 0 || number == MOST)
      wrong(threads.name, "expected some allocations, and not too many");
  }
}

int main(void) {
  report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (report == MAP_FAILED)
    return 1;
  every_allocation_may_fail();
  return n_failures == 0 ? 0 : 1;
}
