/* The library's threads block every signal: a handler of the host's runs on no thread but the host's own. */
#define _GNU_SOURCE
#include "large.h"
#include "process.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct large large;
static volatile sig_atomic_t n_handled;
static pthread_t handled_on;

static void handler(int number) {
  (void)number;
  n_handled++;
  handled_on = pthread_self();
}

static int failed(const char *what) {
  fprintf(stderr, "%s: does not hold (last error: %s)\n", what, adamw_last_error());
  return 1;
}

int main(void) {
  const struct timespec a_while = {.tv_nsec = 200 * 1000 * 1000};
  struct sigaction action = {.sa_handler = handler};
  sigset_t mask, before, after;
  adamw_optimizer *optimizer;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.num_threads = 3;
  large_fill(&large);
  if (large_create(&large, &config, &optimizer) != ADAMW_STATUS_OK)
    return failed("create");
  sigemptyset(&mask);
  pthread_sigmask(SIG_BLOCK, NULL, &before);
  if (adamw_step(optimizer) != ADAMW_STATUS_OK || process_threads() < 3)
    return failed("threads are running");
  pthread_sigmask(SIG_BLOCK, NULL, &after);
  sigaddset(&mask, SIGUSR1);
  sigaction(SIGUSR1, &action, NULL);
  if (sigismember(&after, SIGUSR1) != sigismember(&before, SIGUSR1))
    return failed("the caller's own mask is as it was");

  /* With the caller's thread deaf, the signal goes to any other that is not. */
  pthread_sigmask(SIG_BLOCK, &mask, NULL);
  kill(getpid(), SIGUSR1);
  nanosleep(&a_while, NULL);
  if (n_handled != 0)
    return failed("no thread of the library's takes a signal");
  pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
  if (n_handled != 1 || !pthread_equal(handled_on, pthread_self()))
    return failed("the caller takes it");
  return adamw_destroy(optimizer) == ADAMW_STATUS_OK ? 0 : failed("destroy");
}
