/* A save that was begun, whose thread of the handle the host forks, signals or would cancel: the parent's
   file is whole, a child waits for nothing and writes nothing, and no handler of the host's runs on
   the thread. */
#define _GNU_SOURCE
#include "large.h"
#include "process.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HANGS_AFTER_SECONDS = 10 };

static struct large large;
static adamw_optimizer *optimizer;
static char folder[] = "begun-XXXXXX", path[64], other[64];
static int n_failures;

static void check(const char *what, bool holds) {
  if (!holds) {
    n_failures++;
    fprintf(stderr, "%s: does not hold (last error: %s)\n", what, adamw_last_error());
  }
}

struct file {
  char *bytes;
  size_t n;
};

static struct file file(const char *name) {
  struct file file = {NULL, 0};
  FILE *from = fopen(name, "rb");
  if (!from)
    return file;
  fseek(from, 0, SEEK_END);
  file.n = (size_t)ftell(from);
  rewind(from);
  file.bytes = malloc(file.n);
  check("the file is read", fread(file.bytes, 1, file.n, from) == file.n);
  fclose(from);
  return file;
}

static bool holds_same(const char *name, struct file expected) {
  struct file seen = file(name);
  const bool same = seen.n == expected.n && !memcmp(seen.bytes, expected.bytes, seen.n);
  free(seen.bytes);
  return same;
}

/* A progress function that holds up the thread, as a slow disk does. */
static atomic_bool goes_on, was_called;

static int32_t hold(uint64_t done, uint64_t total, void *user_data) {
  (void)done, (void)total, (void)user_data;
  atomic_store(&was_called, true);
  while (!atomic_load(&goes_on))
    usleep(100);
  return 0;
}

static int32_t cancel_this(uint64_t done, uint64_t total, void *user_data) {
  (void)done, (void)total, (void)user_data;
  pthread_cancel(pthread_self());
  pthread_testcancel();
  usleep(1);
  return 0;
}

static adamw_status begin(adamw_progress progress) {
  const adamw_save_args args = {.struct_size = sizeof args, .path = path, .progress = progress};
  atomic_store(&goes_on, false);
  atomic_store(&was_called, false);
  adamw_status status = adamw_save_begin(optimizer, &args);
  while (progress == hold && status == ADAMW_STATUS_OK && !atomic_load(&was_called))
    usleep(100);
  return status;
}

static adamw_status wait_for_it(void) {
  atomic_store(&goes_on, true);
  return adamw_save_wait(optimizer, NULL, NULL);
}

/* What a child does, as its exit status; 0 is right. */

static int waits(void) {
  uint32_t running;
  return adamw_save_wait(optimizer, NULL, NULL) != ADAMW_STATUS_NOT_FOUND ||
         adamw_save_poll(optimizer, &running, NULL, NULL) != ADAMW_STATUS_NOT_FOUND;
}

static int destroys(void) { return adamw_destroy(optimizer) != ADAMW_STATUS_OK; }

static int exits(void) { exit(0); }

static int steps_and_saves(void) {
  return adamw_step(optimizer) || adamw_save(optimizer, other) ||
         adamw_load(optimizer, other, NULL) || adamw_destroy(optimizer);
}

static int begins_another(void) {
  const adamw_save_args args = {.struct_size = sizeof args, .path = other};
  return adamw_save_begin(optimizer, &args) || adamw_save_wait(optimizer, NULL, NULL) ||
         adamw_load(optimizer, other, NULL) || adamw_destroy(optimizer);
}

static const struct {
  const char *name;
  int (*child)(void);
} children[] = {
    {"a child that waits", waits},
    {"a child that destroys", destroys},
    {"a child that ends", exits},
    {"a child that steps and saves", steps_and_saves},
    {"a child that begins another save", begins_another},
};

static void a_forked_child_waits_for_nothing_and_the_parents_file_is_whole(void) {
  for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
    int status;
    struct file before = file(path);
    check("step", adamw_step(optimizer) == ADAMW_STATUS_OK);
    check("save", adamw_save(optimizer, other) == ADAMW_STATUS_OK);
    struct file expected = file(other);
    check("begin", begin(hold) == ADAMW_STATUS_OK);
    pid_t child = fork();
    if (child == 0) {
      alarm(HANGS_AFTER_SECONDS);
      _exit(children[i].child());
    }
    waitpid(child, &status, 0);
    check(children[i].name, child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check("the old file is there until the new one is whole", holds_same(path, before));
    check("wait", wait_for_it() == ADAMW_STATUS_OK);
    check("the parent's file is whole", holds_same(path, expected));
    free(before.bytes);
    free(expected.bytes);
  }
}

static volatile sig_atomic_t n_handled;

static void handler(int number) {
  (void)number;
  n_handled++;
}

static void a_signal_is_not_for_the_thread(void) {
  const struct timespec a_while = {.tv_nsec = 200 * 1000 * 1000};
  struct sigaction action = {.sa_handler = handler};
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigaction(SIGUSR1, &action, NULL);
  check("begin", begin(hold) == ADAMW_STATUS_OK);
  check("the thread is there", process_threads() == 2);
  pthread_sigmask(SIG_BLOCK, &mask, NULL);
  kill(getpid(), SIGUSR1);
  nanosleep(&a_while, NULL);
  check("the thread takes no signal", n_handled == 0);
  pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
  check("the caller takes it", n_handled == 1);
  check("wait", wait_for_it() == ADAMW_STATUS_OK);
  check("the thread has ended", process_threads() == 1);
}

static void a_function_that_cancels_the_thread_does_not_end_it(void) {
  check("save", adamw_save(optimizer, other) == ADAMW_STATUS_OK);
  struct file expected = file(other);
  check("begin", begin(cancel_this) == ADAMW_STATUS_OK);
  check("wait", wait_for_it() == ADAMW_STATUS_OK);
  check("the file is whole", holds_same(path, expected));
  free(expected.bytes);
}

int main(void) {
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = 1;
  large_fill(&large);
  if (!mkdtemp(folder) || large_create(&large, &config, &optimizer) != ADAMW_STATUS_OK)
    return 2;
  snprintf(path, sizeof path, "%s/state", folder);
  snprintf(other, sizeof other, "%s/other", folder);
  check("save", adamw_save(optimizer, path) == ADAMW_STATUS_OK);
  a_forked_child_waits_for_nothing_and_the_parents_file_is_whole();
  a_signal_is_not_for_the_thread();
  a_function_that_cancels_the_thread_does_not_end_it();
  check("destroy", adamw_destroy(optimizer) == ADAMW_STATUS_OK);
  unlink(path);
  unlink(other);
  check("no other file is left", rmdir(folder) == 0);
  return n_failures != 0;
}
