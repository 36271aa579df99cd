/* After its first call a step allocates nothing; one that lacks its threads changes nothing. */
#include "fail_alloc.h"
#include "large.h"
#include "process.h"
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static struct large large, before, expected;
static int n_failures;

static void wrong(const char *call, const char *what) {
  n_failures++;
  fprintf(stderr, "%s: %s (last error: %s)\n", call, what, adamw_last_error());
}

/* Whose the threads of a handle are. */
enum threads { ITS_OWN, OF_A_TEAM, OF_THE_HOST };

static adamw_optimizer *create_large(uint32_t num_threads, enum threads threads,
                                     adamw_parallel_for parallel_for) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = threads == OF_A_TEAM ? 0 : num_threads;
  config.parallel_for = parallel_for;
  if (threads == OF_A_TEAM && adamw_team_create(num_threads, &config.team) != ADAMW_STATUS_OK)
    wrong("adamw_team_create", "failed");
  large_fill(&large);
  if (large_create(&large, &config, &optimizer) != ADAMW_STATUS_OK)
    wrong("large_create", "failed");
  if (adamw_team_destroy(config.team) != ADAMW_STATUS_OK) /* the handle keeps the threads */
    wrong("adamw_team_destroy", "failed");
  return optimizer;
}

static int n_loops;

static int32_t loop(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  (void)user_data;
  n_loops++;
  for (size_t i = 0; i < num_tasks; i++)
    task(task_data, i);
  return 0;
}

static void a_thread_that_cannot_be_started_fails_the_step(void) {
  static const struct {
    const char *name;
    uint32_t num_threads;
    long n_given; /* threads that the system gives */
    enum threads threads;
  } rows[] = {
      {"no thread of 2", 2, 0, ITS_OWN},
      {"no thread of 4", 4, 0, ITS_OWN},
      {"2 threads of 4", 4, 2, ITS_OWN},
      {"8 threads of as many as a number holds", UINT32_MAX, 8, ITS_OWN},
      {"no thread of a team of 2", 2, 0, OF_A_TEAM},
      {"2 threads of a team of 4", 4, 2, OF_A_TEAM},
  };
  adamw_optimizer *optimizer = create_large(1, ITS_OWN, NULL);
  if (adamw_step(optimizer) != ADAMW_STATUS_OK || adamw_destroy(optimizer) != ADAMW_STATUS_OK)
    wrong("one thread", "failed");
  expected = large;

  int n_threads = process_threads();
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    optimizer = create_large(rows[i].num_threads, rows[i].threads, NULL);
    before = large;
    fail_thread(rows[i].n_given);
    adamw_status status = adamw_step(optimizer);
    fail_nothing();
    if (status != ADAMW_STATUS_OUT_OF_MEMORY || !strstr(adamw_last_error(), "thread"))
      wrong(rows[i].name, "expected ADAMW_STATUS_OUT_OF_MEMORY");
    if (memcmp(&large, &before, sizeof large) != 0)
      wrong(rows[i].name, "the step failed and changed memory");
    if (process_threads() != n_threads)
      wrong(rows[i].name, "the step failed and left threads behind");
    if (rows[i].num_threads <= 4) {
      if (adamw_step(optimizer) != ADAMW_STATUS_OK)
        wrong(rows[i].name, "the step failed again, with all the threads there are");
      if (process_threads() <= n_threads)
        wrong(rows[i].name, "the library's threads never ran, so that this showed nothing");
      if (memcmp(&large, &expected, sizeof large) != 0)
        wrong(rows[i].name, "the step after the failed one gave other bits");
    }
    if (adamw_destroy(optimizer) != ADAMW_STATUS_OK || process_threads() != n_threads)
      wrong(rows[i].name, "adamw_destroy left threads behind");
  }
}

static adamw_status step_together(adamw_optimizer *optimizer) {
  adamw_status status = adamw_step_begin(optimizer);
  if (status == ADAMW_STATUS_OK)
    status = adamw_step_work(optimizer);
  return status == ADAMW_STATUS_OK ? adamw_step_end(optimizer) : status;
}

static void a_step_allocates_nothing_after_the_first(void) {
  enum { STEPS = 1000 };
  static const struct {
    const char *name;
    uint32_t num_threads;
    enum threads threads;
    adamw_parallel_for parallel_for;
    adamw_status (*step)(adamw_optimizer *optimizer);
  } rows[] = {
      {"one thread", 1, ITS_OWN, NULL, adamw_step},
      {"the host's parallel_for", 3, OF_THE_HOST, loop, adamw_step},
      {"two threads of the library's", 2, ITS_OWN, NULL, adamw_step},
      {"a team of two", 2, OF_A_TEAM, NULL, adamw_step},
      {"a step that the host begins and ends", 2, ITS_OWN, NULL, step_together},
  };
  for (int i = 0; i < 5; i++) {
    adamw_optimizer *optimizer =
        create_large(rows[i].num_threads, rows[i].threads, rows[i].parallel_for);
    const adamw_schedule schedule = {.struct_size = sizeof schedule,
                                     .kind = ADAMW_SCHEDULE_COSINE_ANNEALING,
                                     .lr = 0.001,
                                     .period = STEPS};
    if (adamw_set_lr_schedule(optimizer, &schedule) != ADAMW_STATUS_OK ||
        rows[i].step(optimizer) != ADAMW_STATUS_OK)
      wrong(rows[i].name, "the first step failed");
    fail_alloc(LONG_MAX, false);
    for (int step = 0; step < STEPS; step++)
      if (rows[i].step(optimizer) != ADAMW_STATUS_OK)
        wrong(rows[i].name, "a step failed");
    long number = fail_n_allocations();
    if (rows[i].parallel_for && n_loops != STEPS + 1)
      wrong(rows[i].name, "the host's parallel_for was not used at every step");
    if (number != 0) {
      fprintf(stderr, "%ld allocations in %d steps\n", number, STEPS);
      wrong(rows[i].name, "expected none");
    }
    adamw_destroy(optimizer);
  }
}

static void a_step_with_rows_allocates_nothing(void) {
  enum { STEPS = 100, ROWS = 500, ROW = 64 };
  static int32_t rows[ROWS];
  int64_t shape[2] = {ROWS, ROW};
  const adamw_tensor numbers = {rows, {1, 0}, 1, {0, 32, 1}, shape, NULL, 0};
  const adamw_tensor values = {large.f32_grad, {1, 0}, 2, {2, 32, 1}, shape, NULL, 0};
  for (adamw_lazy mode = ADAMW_LAZY_OFF; mode <= ADAMW_LAZY_EXACT; mode++) {
    adamw_optimizer *optimizer = NULL;
    adamw_config config;
    uint32_t table;
    adamw_config_init(&config, sizeof config);
    config.num_threads = 2;
    config.lazy_mode = mode;
    config.clip = ADAMW_CLIP_GLOBAL_NORM;
    config.clip_norm = 1;
    large_fill(&large);
    if (adamw_create(&config, &optimizer) ||
        adamw_add_array(optimizer, "table", large.f32, LARGE_F32 / ROW * ROW, ADAMW_DTYPE_F32,
                        &table) ||
        adamw_set_statistics(optimizer, 1) ||
        adamw_set_sparse_grad(optimizer, table, &numbers, &values) || adamw_step(optimizer))
      wrong("rows", "the first step failed");
    fail_alloc(LONG_MAX, false);
    for (int step = 0; step < STEPS; step++) {
      for (int i = 0; i < ROWS; i++)
        rows[i] = (i * 31 + step * 17) % 700; /* in no order, some more than once */
      if (adamw_set_sparse_grad(optimizer, table, &numbers, &values) ||
          adamw_sparse_prepare(optimizer, table, &numbers) || adamw_step(optimizer))
        wrong("rows", "a step failed");
    }
    if (fail_n_allocations() != 0)
      wrong("rows", "expected no allocation");
    fail_nothing();
    adamw_destroy(optimizer);
  }
}

int main(void) {
  a_thread_that_cannot_be_started_fails_the_step();
  a_step_allocates_nothing_after_the_first();
  a_step_with_rows_allocates_nothing();
  return n_failures == 0 ? 0 : 1;
}
