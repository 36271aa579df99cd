/* A thread that is cancelled inside a call ends after it: the call is whole, its handle can be used by others, and
   the process goes on. */
#define _GNU_SOURCE
#include "large.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct large large;
static char path[] = "/tmp/adamw-cancel-XXXXXX";
static int n_failures;

struct run {
  adamw_optimizer *optimizer;
  adamw_status (*call)(struct run *);
  int type;        /* of cancellation */
  int from_inside; /* a callback cancels the thread; otherwise it is cancelled before the call */
  volatile int status, returned;
};

static void wrong(const char *call, const char *what) {
  n_failures++;
  fprintf(stderr, "%s: %s (last error: %s)\n", call, what, adamw_last_error());
}

/* Callbacks, in which a thread is cancelled, and comes to where it would end. */

static void cancel_this(void *run) {
  if (((struct run *)run)->from_inside)
    pthread_cancel(pthread_self());
  pthread_testcancel();
  usleep(1);
}

static int32_t closure(double *out_loss, void *run) {
  cancel_this(run);
  *out_loss = 1;
  return 0;
}

static int32_t progress(uint64_t done, uint64_t total, void *run) {
  (void)done, (void)total;
  cancel_this(run);
  return 0;
}

static adamw_status save(struct run *run) {
  const adamw_save_args args = {.struct_size = sizeof args,
                                .path = path,
                                .progress = progress,
                                .progress_data = run};
  return adamw_save_to(run->optimizer, &args, NULL);
}

static adamw_status load(struct run *run) {
  const adamw_load_options options = {
      .struct_size = sizeof options, .progress = progress, .progress_data = run};
  return adamw_load(run->optimizer, path, &options);
}

static adamw_status step(struct run *run) {
  double loss;
  const adamw_minimize_args args = {
      .struct_size = sizeof args, .closure = closure, .user_data = run};
  return adamw_minimize(run->optimizer, &args, &loss, NULL);
}

static adamw_status destroy(struct run *run) { return adamw_destroy(run->optimizer); }

static const struct {
  const char *name;
  adamw_status (*call)(struct run *);
} calls[] = {{"save", save}, {"load", load}, {"step", step}, {"destroy", destroy}};

static void *work(void *data) {
  struct run *run = data;
  int old;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
  pthread_setcanceltype(run->type, &old);
  if (!run->from_inside && run->type == PTHREAD_CANCEL_DEFERRED)
    pthread_cancel(pthread_self());
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
  run->status = (int)run->call(run);
  run->returned = 1;
  while (data)
    pthread_testcancel();
  return NULL;
}

static adamw_optimizer *trained(void) {
  adamw_optimizer *optimizer;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = 3;
  large_fill(&large);
  if (large_create(&large, &config, &optimizer) != ADAMW_STATUS_OK ||
      adamw_step(optimizer) != ADAMW_STATUS_OK || adamw_save(optimizer, path) != ADAMW_STATUS_OK)
    wrong("the start", "failed");
  return optimizer;
}

static void a_call_is_whole_and_its_thread_ends_after_it(void) {
  static const int types[] = {PTHREAD_CANCEL_DEFERRED, PTHREAD_CANCEL_ASYNCHRONOUS};
  for (int i = 0; i < 16; i++) {
    const char *name = calls[i / 4].name;
    struct run run = {trained(), calls[i / 4].call, types[i / 2 % 2], i % 2, -1, 0};
    const int is_destroy = run.call == destroy;
    pthread_t thread;
    void *result;
    if (is_destroy && run.from_inside) { /* it has no callbacks */
      adamw_destroy(run.optimizer);
      continue;
    }
    pthread_create(&thread, NULL, work, &run);
    if (!run.from_inside && run.type == PTHREAD_CANCEL_ASYNCHRONOUS) {
      while (!run.returned)
        usleep(10);
      pthread_cancel(thread);
    }
    pthread_join(thread, &result);
    if (result != PTHREAD_CANCELED)
      wrong(name, "its thread was not cancelled");
    if (run.returned && run.status != ADAMW_STATUS_OK)
      wrong(name, "failed");
    if (!run.returned && run.type == PTHREAD_CANCEL_DEFERRED)
      wrong(name, "did not return");
    if (!is_destroy && adamw_step(run.optimizer) != ADAMW_STATUS_OK)
      wrong(name, "left a handle that cannot be used");
    if (adamw_destroy(run.optimizer) != (is_destroy ? ADAMW_STATUS_BAD_HANDLE : ADAMW_STATUS_OK))
      wrong(name, "left a handle that cannot be destroyed");
  }
}

/* Whatever instruction they are at. */
static void *call_again_and_again(void *data) {
  struct run *run = data;
  double lr;
  int old;
  pthread_setcanceltype(run->type, &old);
  while (data)
    adamw_get_lr(run->optimizer, &lr);
  return NULL;
}

static void threads_may_be_cancelled_at_any_time(void) {
  struct run run = {.optimizer = trained(), .type = PTHREAD_CANCEL_ASYNCHRONOUS};
  for (int i = 0; i < 2000; i++) {
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, call_again_and_again, &run);
    usleep((useconds_t)(i % 7) * 20);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    if (result != PTHREAD_CANCELED)
      wrong("get_lr", "its thread was not cancelled");
  }
  if (adamw_step(run.optimizer) != ADAMW_STATUS_OK)
    wrong("get_lr", "left a handle that cannot be used");
  adamw_destroy(run.optimizer);
}

int main(void) {
  int file = mkstemp(path);
  if (file < 0 || close(file))
    return 1;
  a_call_is_whole_and_its_thread_ends_after_it();
  threads_may_be_cancelled_at_any_time();
  unlink(path);
  return n_failures != 0;
}
