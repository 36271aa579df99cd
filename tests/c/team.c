/* Threads that several handles share: the bits of one thread, as many threads as the team has been
   asked for, and joined when the last of its owners is gone, whoever that is. */
#define _GNU_SOURCE
#include "harness.h"
#include "large.h"
#include "process.h"
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANDLES = 3, THREADS = 3, MANY_STEPS = 40, HANGS_AFTER_SECONDS = 20 };

static struct large memory[HANDLES], expected;
static adamw_optimizer *handles[HANDLES];
static adamw_team *team;

/* Whether the process has so many threads, once those that have ended are gone: the kernel wakes
   who joins a thread a moment before it takes the thread off its list. */
static bool has_threads(int expected) {
  for (int i = 0; i < 5000 && process_threads() != expected; i++)
    usleep(1000);
  return process_threads() == expected;
}

/* A handle over memory of its own, with the threads of a team, or with one. */
static adamw_optimizer *handle_of(adamw_team *its_team, struct large *large) {
  adamw_optimizer *optimizer = NULL;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.team = its_team;
  config.num_threads = its_team ? 0 : 1;
  large_fill(large);
  accepted(large_create(large, &config, &optimizer));
  return optimizer;
}

/* What `n_steps` steps on one thread come to. */
static void expect(int n_steps) {
  adamw_optimizer *optimizer = handle_of(NULL, &expected);
  for (int step = 0; step < n_steps; step++)
    accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
}

static void make_all(void) {
  accepted(adamw_team_create(THREADS, &team));
  for (int i = 0; i < HANDLES; i++)
    handles[i] = handle_of(team, &memory[i]);
}

static void handles_share_the_threads_until_the_last_owner_is_gone(void) {
  adamw_step_info info;
  expect(3);
  for (int place = 0; place <= HANDLES; place++) {
    row("a team that is destroyed after %d of %d handles", place, HANDLES);
    make_all();
    holds(has_threads(1)); /* before the first large step */
    for (int i = 0; i < 2 * HANDLES; i++)
      accepted(adamw_step(handles[i % HANDLES]));
    for (int i = 0; i < HANDLES; i++) {
      if (i == place)
        accepted(adamw_team_destroy(team));
      holds(has_threads(THREADS));
      accepted(adamw_step(handles[i]));
      holds(memcmp(&memory[i], &expected, sizeof expected) == 0);
      accepted(adamw_get_step_info(handles[i], &info, sizeof info));
      holds(info.num_threads == THREADS);
      accepted(adamw_destroy(handles[i]));
    }
    if (place == HANDLES) {
      holds(has_threads(THREADS));
      accepted(adamw_team_destroy(team));
    }
    holds(has_threads(1));
  }
}

/* A large step of a handle with its own threads, or with a team's, is taken by so many. */
static void the_number_of_threads_is_taken_at_its_word(void) {
  adamw_capabilities here;
  adamw_step_info info;
  accepted(adamw_get_capabilities(&here, sizeof here));
  expect(1);
  for (int i = 0; i < 6; i++) {
    const uint32_t asked[] = {0, 1, here.num_cpus + 5};
    uint32_t number = asked[i / 2], threads = number ? number : here.num_cpus;
    adamw_optimizer *optimizer = NULL;
    adamw_config config;
    row("%u threads %s", number, i % 2 ? "of a team" : "of its own");
    adamw_config_init(&config, sizeof config);
    if (i % 2)
      accepted(adamw_team_create(number, &config.team));
    else
      config.num_threads = number;
    large_fill(&memory[0]);
    accepted(large_create(&memory[0], &config, &optimizer));
    accepted(adamw_step(optimizer));
    holds(has_threads((int)threads));
    accepted(adamw_get_step_info(optimizer, &info, sizeof info));
    holds(info.num_threads == threads);
    holds(memcmp(&memory[0], &expected, sizeof expected) == 0);
    accepted(adamw_destroy(optimizer));
    accepted(adamw_team_destroy(config.team));
    holds(has_threads(1));
  }
}

static void *steps(void *optimizer) {
  for (int step = 0; step < MANY_STEPS; step++)
    if (adamw_step(optimizer) != ADAMW_STATUS_OK)
      return optimizer;
  return NULL;
}

static void handles_step_at_the_same_time(void) {
  pthread_t threads[HANDLES];
  row("threads that step a handle each");
  expect(MANY_STEPS);
  make_all();
  for (int i = 0; i < HANDLES; i++)
    holds(pthread_create(&threads[i], NULL, steps, handles[i]) == 0);
  for (int i = 0; i < HANDLES; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    holds(!failed);
    holds(memcmp(&memory[i], &expected, sizeof expected) == 0);
    accepted(adamw_destroy(handles[i]));
  }
  holds(has_threads(THREADS));
  accepted(adamw_team_destroy(team));
}

/* Makes and destroys handles while others do, too. */
static void *makes_handles(void *data) {
  adamw_config config;
  adamw_optimizer *optimizer;
  adamw_config_init(&config, sizeof config);
  config.team = data;
  for (int i = 0; i < 5000; i++)
    if (adamw_create(&config, &optimizer) || adamw_destroy(optimizer))
      return data;
  return NULL;
}

static void handles_are_made_at_the_same_time(void) {
  pthread_t threads[HANDLES];
  row("threads that make handles of one team");
  accepted(adamw_team_create(THREADS, &team));
  for (int i = 0; i < HANDLES; i++)
    holds(pthread_create(&threads[i], NULL, makes_handles, team) == 0);
  for (int i = 0; i < HANDLES; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    holds(!failed);
  }
  accepted(adamw_team_destroy(team));
}

static int32_t loop(size_t num_tasks, adamw_task task, void *task_data, void *user_data) {
  (void)num_tasks, (void)task, (void)task_data, (void)user_data;
  return 0;
}

static void what_contradicts_a_team_is_refused(void) {
  adamw_optimizer *optimizer = NULL;
  adamw_team *other = NULL;
  adamw_config config;
  accepted(adamw_team_create(2, &team));
  adamw_config_init(&config, sizeof config);
  config.team = team;
  row("a team and something else");
  config.num_threads = 4;
  returns(adamw_create(&config, &optimizer), ADAMW_STATUS_INVALID_ARGUMENT, "num_threads", "4",
          "team");
  config.num_threads = 0;
  config.parallel_for = loop;
  returns(adamw_create(&config, &optimizer), ADAMW_STATUS_INVALID_ARGUMENT, "parallel_for", "team");
  config.parallel_for = NULL;

  row("handles of the wrong kind");
  accepted(adamw_create(&config, &optimizer));
  returns(adamw_step((adamw_optimizer *)team), ADAMW_STATUS_BAD_HANDLE, "handle");
  returns(adamw_team_destroy((adamw_team *)optimizer), ADAMW_STATUS_BAD_HANDLE, "team");
  returns(adamw_team_destroy((adamw_team *)&config), ADAMW_STATUS_BAD_HANDLE, "team");
  returns(adamw_team_create(2, NULL), ADAMW_STATUS_INVALID_ARGUMENT, "out_team", "NULL");
  accepted(adamw_team_destroy(NULL));

  row("a team that was destroyed");
  accepted(adamw_team_destroy(team));
  returns(adamw_team_destroy(team), ADAMW_STATUS_BAD_HANDLE, "team");
  accepted(adamw_team_create(2, &other));
  holds(other != team);
  adamw_optimizer *none = NULL;
  returns(adamw_create(&config, &none), ADAMW_STATUS_BAD_HANDLE, "team");
  holds(!none);
  accepted(adamw_step(optimizer));
  accepted(adamw_destroy(optimizer));
  accepted(adamw_team_destroy(other));
}

/* What a child does, as its exit status; 0 is right. Each takes the third step of memory[0]. */

static int steps_the_parents_handles(void) {
  return adamw_step(handles[0]) || adamw_destroy(handles[0]) || adamw_team_destroy(team) ||
         adamw_step(handles[1]) || adamw_destroy(handles[1]);
}

static int adds_a_handle_to_the_parents_team(void) {
  adamw_optimizer *own = handle_of(team, &memory[0]);
  for (int step = 0; step < 3; step++)
    if (adamw_step(own))
      return 1;
  return adamw_team_destroy(team) || adamw_destroy(own) || !has_threads(1);
}

static int has_a_team_of_its_own(void) {
  adamw_team *own = NULL;
  if (adamw_team_create(THREADS, &own))
    return 1;
  adamw_optimizer *optimizer = handle_of(own, &memory[0]);
  for (int step = 0; step < 3; step++)
    if (adamw_step(optimizer))
      return 1;
  if (!has_threads(THREADS))
    return 2;
  return adamw_destroy(optimizer) || adamw_team_destroy(own) || !has_threads(1);
}

static const struct {
  const char *name;
  int (*child)(void);
} children[] = {
    {"a child that steps its parent's handles", steps_the_parents_handles},
    {"a child that adds a handle to its parent's team", adds_a_handle_to_the_parents_team},
    {"a child with a team of its own", has_a_team_of_its_own},
};

static void a_forked_child_steps_alone(void) {
  expect(3);
  make_all();
  for (int i = 0; i < 2 * HANDLES; i++)
    accepted(adamw_step(handles[i % HANDLES]));
  for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
    int status;
    row("%s", children[i].name);
    pid_t child = fork();
    if (child == 0) {
      alarm(HANGS_AFTER_SECONDS);
      int failed = children[i].child();
      _exit(failed ? failed : memcmp(&memory[0], &expected, sizeof expected) != 0);
    }
    holds(child > 0 && waitpid(child, &status, 0) == child);
    holds(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  row("the parent afterwards");
  for (int i = 0; i < HANDLES; i++) {
    accepted(adamw_step(handles[i]));
    holds(memcmp(&memory[i], &expected, sizeof expected) == 0);
    accepted(adamw_destroy(handles[i]));
  }
  accepted(adamw_team_destroy(team));
  holds(has_threads(1));
}

int main(void) {
  start();
  handles_share_the_threads_until_the_last_owner_is_gone();
  the_number_of_threads_is_taken_at_its_word();
  handles_step_at_the_same_time();
  handles_are_made_at_the_same_time();
  what_contradicts_a_team_is_refused();
  a_forked_child_steps_alone();
  return finish("team");
}
