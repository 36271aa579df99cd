/* However a host's parallel_for runs the tasks, the bits are those of one thread; if it refuses
   before it ran any, nothing has changed. */
#include "harness.h"
#include "large.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { STEPS = 3, MOST_TASKS = 64 };

static struct large expected, large, before;
static size_t n_calls, n_tasks_seen;

static void called(size_t num_tasks) {
  n_calls++;
  n_tasks_seen = num_tasks;
}

struct one_task {
  adamw_task task;
  void *task_data;
  size_t index;
};

static void *run_one(void *data) {
  struct one_task *one = data;
  one->task(one->task_data, one->index);
  return NULL;
}

static int32_t on_threads_that_are_joined(size_t num_tasks, adamw_task task, void *task_data,
                                          void *user_data) {
  pthread_t threads[MOST_TASKS];
  struct one_task tasks[MOST_TASKS];
  (void)user_data;
  called(num_tasks);
  for (size_t i = 0; i < num_tasks; i++) {
    tasks[i] = (struct one_task){task, task_data, i};
    pthread_create(&threads[i], NULL, run_one, &tasks[i]);
  }
  for (size_t i = 0; i < num_tasks; i++)
    pthread_join(threads[i], NULL);
  return 0;
}

static int32_t in_reverse(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  (void)user_data;
  called(num_tasks);
  for (size_t i = num_tasks; i-- > 0;)
    task(task_data, i);
  return 0;
}

static int32_t on_the_calling_thread(size_t num_tasks, adamw_task task, void *task_data,
                                     void *user_data) {
  (void)user_data;
  called(num_tasks);
  for (size_t i = 0; i < num_tasks; i++)
    task(task_data, i);
  return 0;
}

static int32_t twice(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  int32_t first = on_threads_that_are_joined(num_tasks, task, task_data, user_data);
  return first + in_reverse(num_tasks, task, task_data, user_data);
}

static int32_t only_the_last(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  (void)user_data;
  called(num_tasks);
  task(task_data, num_tasks - 1);
  return 0;
}

static int32_t none(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  (void)task, (void)task_data, (void)user_data;
  called(num_tasks);
  return 0;
}

/* Too late to refuse: the step is taken. */
static int32_t one_and_an_error(size_t num_tasks, adamw_task task, void *task_data,
                                void *user_data) {
  return only_the_last(num_tasks, task, task_data, user_data) + 7;
}

/* user_data: the handle that is stepping. */
static int32_t calls_back(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  adamw_optimizer **optimizer = user_data;
  for (const struct call *call = every_call; call->name; call++)
    returns(call->call(*optimizer), ADAMW_STATUS_BUSY, "in use");
  return on_the_calling_thread(num_tasks, task, task_data, NULL);
}

static const struct {
  const char *name;
  adamw_parallel_for parallel_for;
  uint32_t num_threads;
} loops[] = {
    {"on threads that are joined", on_threads_that_are_joined, 4},
    {"on one thread of its own", on_threads_that_are_joined, 2},
    {"in reverse", in_reverse, 3},
    {"on the calling thread", on_the_calling_thread, 16},
    {"every index twice", twice, 3},
    {"only the last index", only_the_last, 4},
    {"no index", none, 4},
    {"one index and an error", one_and_an_error, 4},
    {"calling back into the handle", calls_back, 4},
    {"the library's own threads", NULL, 2},
    {"more of the library's own threads than processors", NULL, 7},
};

static void steps_with(adamw_parallel_for parallel_for, uint32_t num_threads,
                       struct large *memory) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = num_threads;
  config.parallel_for = parallel_for;
  config.parallel_for_data = &optimizer;
  large_fill(memory);
  accepted(large_create(memory, &config, &optimizer));
  for (int step = 0; step < STEPS; step++)
    accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
}

static void every_loop_gives_the_bits_of_one_thread(void) {
  row("one thread");
  steps_with(NULL, 1, &expected);
  large_fill(&before);
  holds(memcmp(&before, &expected, sizeof before) != 0);
  for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
    row("%s", loops[i].name);
    n_calls = 0;
    steps_with(loops[i].parallel_for, loops[i].num_threads, &large);
    holds(memcmp(&large, &expected, sizeof large) == 0);
    if (loops[i].parallel_for) {
      holds(n_calls >= STEPS);
      holds(n_tasks_seen > 0 && n_tasks_seen <= loops[i].num_threads);
    }
  }
}

/* Refuses as long as user_data says so. */
static int32_t refuses(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  int32_t *answer = user_data;
  return *answer ? *answer : on_the_calling_thread(num_tasks, task, task_data, NULL);
}

static void a_loop_that_refuses_changes_nothing(void) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  adamw_param_info info;
  int32_t answer = 0;
  row("a parallel_for that refuses the second step twice");
  adamw_config_init(&config, sizeof config);
  config.num_threads = 4;
  config.parallel_for = refuses;
  config.parallel_for_data = &answer;
  large_fill(&large);
  accepted(large_create(&large, &config, &optimizer));
  accepted(adamw_step(optimizer));
  before = large;
  for (answer = -3; answer < 4; answer += 6) {
    returns(adamw_step(optimizer), ADAMW_STATUS_CALLBACK, "parallel_for", answer < 0 ? "-3" : "3");
    holds(memcmp(&large, &before, sizeof large) == 0);
    for (uint32_t param = 0; param < 4; param++) {
      accepted(adamw_get_param_info(optimizer, param, &info, sizeof info));
      holds(info.step == 1);
    }
  }
  answer = 0;
  for (int step = 1; step < STEPS; step++)
    accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
  holds(memcmp(&large, &expected, sizeof large) == 0);
}

/* A master starts as what the parameter is at its first step, and a refused one is none. */
static void a_refused_first_step_does_not_fill_the_master(void) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  int32_t answer = 5;
  row("a parallel_for that refuses the first step, before the host has written the parameters");
  adamw_config_init(&config, sizeof config);
  config.num_threads = 4;
  config.parallel_for = refuses;
  config.parallel_for_data = &answer;
  large_fill(&large);
  memset(large.bf16, 0, sizeof large.bf16);
  accepted(large_create(&large, &config, &optimizer));
  returns(adamw_step(optimizer), ADAMW_STATUS_CALLBACK, "parallel_for", "5");
  large_fill(&large);
  answer = 0;
  for (int step = 0; step < STEPS; step++)
    accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
  holds(memcmp(&large, &expected, sizeof large) == 0);
}

int main(void) {
  start();
  every_loop_gives_the_bits_of_one_thread();
  a_loop_that_refuses_changes_nothing();
  a_refused_first_step_does_not_fill_the_master();
  return finish("host_parallel_for");
}
