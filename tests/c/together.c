/* Steps that threads of the host take together: the bits of adamw_step, however many threads come
   and when, and a step that fails changes nothing. */
#define _GNU_SOURCE
#include "harness.h"
#include "large.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, STEPS = 3, HANGS_AFTER_SECONDS = 20 };

static struct large large, expected, before;

/* Ways for threads to come. Each takes one step. */

static void *works(void *optimizer) {
  return adamw_step_work(optimizer) == ADAMW_STATUS_OK ? NULL : optimizer;
}

static void all_work(adamw_optimizer *optimizer, pthread_t *threads) {
  for (int i = 0; i < THREADS; i++)
    holds(pthread_create(&threads[i], NULL, works, optimizer) == 0);
}

static void join_all(pthread_t *threads) {
  for (int i = 0; i < THREADS; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    holds(!failed);
  }
}

static adamw_status at_the_same_time(adamw_optimizer *optimizer) {
  pthread_t threads[THREADS];
  accepted(adamw_step_begin(optimizer));
  all_work(optimizer, threads);
  join_all(threads);
  return adamw_step_end(optimizer);
}

/* Whoever comes after the end finds nothing to do. */
static adamw_status perhaps_too_late(adamw_optimizer *optimizer) {
  pthread_t threads[THREADS];
  accepted(adamw_step_begin(optimizer));
  all_work(optimizer, threads);
  adamw_status status = adamw_step_end(optimizer);
  join_all(threads);
  return status;
}

static adamw_status one_after_the_other(adamw_optimizer *optimizer) {
  accepted(adamw_step_begin(optimizer));
  for (int i = 0; i < THREADS; i++)
    accepted(adamw_step_work(optimizer));
  return adamw_step_end(optimizer);
}

static adamw_status none_at_all(adamw_optimizer *optimizer) {
  accepted(adamw_step_begin(optimizer));
  return adamw_step_end(optimizer);
}

static const struct {
  const char *name;
  adamw_status (*step)(adamw_optimizer *optimizer);
} arrivals[] = {
    {"threads at the same time", at_the_same_time},
    {"threads that may be too late", perhaps_too_late},
    {"calls one after the other", one_after_the_other},
    {"no call but the end", none_at_all},
};
enum { N_ARRIVALS = sizeof arrivals / sizeof arrivals[0] };

/* Handles of all kinds. */

static void plain(adamw_config *config) { config->num_threads = 1; }
static void clipped(adamw_config *config) {
  config->clip = ADAMW_CLIP_GLOBAL_NORM;
  config->clip_norm = 1;
}
static void clipped_each(adamw_config *config) {
  config->clip = ADAMW_CLIP_NORM;
  config->clip_norm = 1;
}
static void that_fails(adamw_config *config) { config->nonfinite = ADAMW_NONFINITE_FAIL; }
static void with_threads(adamw_config *config) { config->num_threads = 2; }

static const struct {
  const char *name;
  void (*configure)(adamw_config *config);
} kinds[] = {
    {"plain", plain},
    {"clipped", clipped},
    {"clipped each", clipped_each},
    {"refusing what is not finite", that_fails},
    {"with threads of its own", with_threads},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static adamw_optimizer *create(int kind, struct large *memory) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  kinds[kind].configure(&config);
  large_fill(memory);
  accepted(large_create(memory, &config, &optimizer));
  accepted(adamw_set_statistics(optimizer, 1));
  return optimizer;
}

static void however_threads_come_the_bits_are_those_of_a_step(void) {
  for (int kind = 0; kind < N_KINDS; kind++) {
    adamw_step_info info, expected_info;
    adamw_optimizer *optimizer = create(kind, &expected);
    row("%s", kinds[kind].name);
    for (int step = 0; step < STEPS; step++)
      accepted(adamw_step(optimizer));
    accepted(adamw_get_step_info(optimizer, &expected_info, sizeof expected_info));
    accepted(adamw_destroy(optimizer));
    for (size_t arrival = 0; arrival < N_ARRIVALS; arrival++) {
      row("%s, %s", kinds[kind].name, arrivals[arrival].name);
      optimizer = create(kind, &large);
      for (int step = 0; step < STEPS; step++)
        accepted(arrivals[arrival].step(optimizer));
      holds(memcmp(&large, &expected, sizeof large) == 0);
      accepted(adamw_get_step_info(optimizer, &info, sizeof info));
      info.seconds = expected_info.seconds;
      holds(memcmp(&info, &expected_info, sizeof info) == 0);
      accepted(adamw_destroy(optimizer));
    }
  }
}

static void a_step_that_fails_changes_nothing(void) {
  for (size_t arrival = 0; arrival < N_ARRIVALS; arrival++) {
    adamw_optimizer *optimizer = create(3, &large);
    row("a gradient that is not finite, %s", arrivals[arrival].name);
    float good = large.f32_grad[LARGE_F32 - 1];
    large.f32_grad[LARGE_F32 - 1] = INFINITY;
    memcpy(&before, &large, sizeof large);
    returns(arrivals[arrival].step(optimizer), ADAMW_STATUS_NONFINITE, "f32");
    holds(memcmp(&large, &before, sizeof large) == 0);
    large.f32_grad[LARGE_F32 - 1] = good;
    accepted(arrivals[arrival].step(optimizer));
    holds(memcmp(&large, &before, sizeof large) != 0);
    accepted(adamw_destroy(optimizer));
  }
}

static void other_calls_are_refused_until_the_end(void) {
  adamw_optimizer *optimizer = create(0, &large);
  row("no step has begun");
  returns(adamw_step_end(optimizer), ADAMW_STATUS_NOT_FOUND, "adamw_step_begin");
  accepted(adamw_step_work(optimizer));
  accepted(adamw_step_begin(optimizer));
  for (const struct call *call = every_call; call->name; call++) {
    row("%s, while a step has begun", call->name);
    if (call->call != adamw_step_end)
      returns(call->call(optimizer), ADAMW_STATUS_BUSY, "adamw_step_end");
  }
  row("the end");
  accepted(adamw_step_end(optimizer));
  returns(adamw_step_end(optimizer), ADAMW_STATUS_NOT_FOUND, "adamw_step_begin");
  accepted(adamw_step_work(optimizer));
  accepted(adamw_destroy(optimizer));
  returns(adamw_step_work(optimizer), ADAMW_STATUS_BAD_HANDLE, "handle");
}

/* user_data: the handle that is stepping. */
static int32_t calls_back(const adamw_param_info *param, double *out_ratio, void *user_data) {
  returns(adamw_step_work(user_data), ADAMW_STATUS_BUSY, "in use");
  returns(adamw_step_end(user_data), ADAMW_STATUS_BUSY, "in use");
  *out_ratio = 1;
  return param->param == 3 ? 5 : 0;
}

static void callbacks_cannot_take_part_and_may_fail(void) {
  for (size_t arrival = 0; arrival < N_ARRIVALS; arrival++) {
    adamw_optimizer *optimizer = create(0, &large);
    row("a callback, %s", arrivals[arrival].name);
    memcpy(&before, &large, sizeof large);
    accepted(adamw_set_lr_ratio(optimizer, calls_back, optimizer));
    returns(arrivals[arrival].step(optimizer), ADAMW_STATUS_CALLBACK, "lr_ratio", "5");
    holds(memcmp(&large, &before, sizeof large) == 0);
    accepted(adamw_destroy(optimizer));
  }
}

/* The thread that leads a step, and the time that others compute, in ns. */
static pthread_t leader;
static long long computed;

static int32_t tells_the_leader(const adamw_param_info *param, double *out_ratio, void *unused) {
  (void)param, (void)unused;
  leader = pthread_self();
  *out_ratio = 1;
  return 0;
}

static void *computes(void *optimizer) {
  struct timespec time;
  if (adamw_step_work(optimizer) || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time))
    return optimizer;
  if (!pthread_equal(leader, pthread_self()))
    __atomic_fetch_add(&computed, time.tv_sec * 1000000000LL + time.tv_nsec, __ATOMIC_RELAXED);
  return NULL;
}

static void those_who_do_not_lead_take_a_part_of_the_work(void) {
  /* A step takes some ms, and a thread that only waits 0.02 ms of a processor. */
  enum { N = 1 << 22, MOST_STEPS = 200, MUCH = 20000000 };
  float *param = calloc(N, sizeof *param), *grad = calloc(N, sizeof *grad);
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  uint32_t number;
  row("threads beside the one that leads");
  adamw_config_init(&config, sizeof config);
  plain(&config);
  accepted(adamw_create(&config, &optimizer));
  accepted(adamw_add_array(optimizer, "w", param, N, ADAMW_DTYPE_F32, &number));
  accepted(adamw_set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32));
  accepted(adamw_set_lr_ratio(optimizer, tells_the_leader, NULL));
  for (int step = 0; step < MOST_STEPS && computed < MUCH; step++) {
    pthread_t threads[THREADS];
    accepted(adamw_step_begin(optimizer));
    for (int i = 0; i < THREADS; i++)
      holds(pthread_create(&threads[i], NULL, computes, optimizer) == 0);
    join_all(threads);
    accepted(adamw_step_end(optimizer));
  }
  holds(computed >= MUCH);
  accepted(adamw_destroy(optimizer));
  free(param);
  free(grad);
}

static void a_forked_child_cannot_end_what_its_parent_began(void) {
  adamw_optimizer *begun = create(0, &large), *idle = create(0, &before);
  int status;
  row("a forked child");
  accepted(at_the_same_time(begun));
  accepted(at_the_same_time(idle));
  accepted(adamw_step_begin(begun));
  pid_t child = fork();
  if (child == 0) {
    alarm(HANGS_AFTER_SECONDS);
    _exit(adamw_step_work(begun) != ADAMW_STATUS_OK || adamw_step_end(begun) != ADAMW_STATUS_BUSY ||
          adamw_step_begin(begun) != ADAMW_STATUS_BUSY || at_the_same_time(idle) ||
          adamw_destroy(idle));
  }
  holds(child > 0 && waitpid(child, &status, 0) == child);
  holds(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  accepted(adamw_step_end(begun));
  accepted(adamw_destroy(begun));
  accepted(adamw_destroy(idle));
}

int main(void) {
  start();
  however_threads_come_the_bits_are_those_of_a_step();
  a_step_that_fails_changes_nothing();
  other_calls_are_refused_until_the_end();
  callbacks_cannot_take_part_and_may_fail();
  those_who_do_not_lead_take_a_part_of_the_work();
  a_forked_child_cannot_end_what_its_parent_began();
  return finish("together");
}
