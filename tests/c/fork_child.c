/* A forked child has none of its parent's threads, and steps all the same, to the same bits. */
#define _GNU_SOURCE
#include "large.h"
#include "process.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANGS_AFTER_SECONDS = 10 };

static struct large large;
static adamw_optimizer *optimizer;
static int n_failures;

static void check(const char *what, bool holds) {
  if (!holds) {
    n_failures++;
    fprintf(stderr, "%s: does not hold (last error: %s)\n", what, adamw_last_error());
  }
}

static adamw_status create(adamw_optimizer **out_optimizer) {
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = 2;
  large_fill(&large);
  return large_create(&large, &config, out_optimizer);
}

/* What a child does, as its exit status; 0 is right. */

static int steps_the_parents_handle(void) {
  return adamw_step(optimizer) != ADAMW_STATUS_OK || adamw_destroy(optimizer) != ADAMW_STATUS_OK;
}

static int steps_a_handle_of_its_own(void) {
  adamw_optimizer *own = NULL;
  if (create(&own) != ADAMW_STATUS_OK)
    return 1;
  for (int step = 0; step < 3; step++)
    if (adamw_step(own) != ADAMW_STATUS_OK)
      return 1;
  return adamw_destroy(own) != ADAMW_STATUS_OK;
}

static int destroys_the_parents_handle(void) { return adamw_destroy(optimizer) != ADAMW_STATUS_OK; }

static int forks_again(void) {
  int status;
  pid_t grandchild = fork();
  if (grandchild == 0) {
    alarm(HANGS_AFTER_SECONDS);
    _exit(steps_a_handle_of_its_own());
  }
  waitpid(grandchild, &status, 0);
  if (status != 0)
    return 1;
  return steps_the_parents_handle();
}

static const struct {
  const char *name;
  int (*child)(void);
  bool takes_the_next_step; /* of the parent's */
} rows[] = {
    {"a child that steps the parent's handle", steps_the_parents_handle, true},
    {"a child that steps a handle of its own", steps_a_handle_of_its_own, true},
    {"a child that destroys the parent's handle", destroys_the_parents_handle, false},
    {"a child with a child", forks_again, true},
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

int main(void) {
  struct large *of_children = mmap(NULL, N_ROWS * sizeof *of_children, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (of_children == MAP_FAILED)
    return 1;
  check("create", create(&optimizer) == ADAMW_STATUS_OK);
  for (int step = 0; step < 2; step++)
    check("step", adamw_step(optimizer) == ADAMW_STATUS_OK);
  check("the parent's threads are running", process_threads() > 1);
  for (int i = 0; i < N_ROWS; i++) {
    int status;
    pid_t child = fork();
    if (child == 0) {
      alarm(HANGS_AFTER_SECONDS);
      int failed = rows[i].child();
      of_children[i] = large;
      _exit(failed);
    }
    waitpid(child, &status, 0);
    check(rows[i].name, child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  check("step", adamw_step(optimizer) == ADAMW_STATUS_OK);
  for (int i = 0; i < N_ROWS; i++)
    if (rows[i].takes_the_next_step)
      check(rows[i].name, memcmp(&of_children[i], &large, sizeof large) == 0);
  check("destroy", adamw_destroy(optimizer) == ADAMW_STATUS_OK);
  check("the threads are joined", process_threads() == 1);
  return n_failures == 0 ? 0 : 1;
}
