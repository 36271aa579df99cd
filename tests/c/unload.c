/* A program that loads the library, uses its threads and unloads it again is left as it was: no
   thread and no memory more, however often. usage: unload path/to/libadamw.so */
#define _GNU_SOURCE
#include "loaded.h"
#include "process.h"
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { ROUNDS = 300, SETTLED = 50, N = 600000 };
/* Resident memory may wander by some pages, but not by 4 KiB a round. */
enum { MOST_GROWTH_BYTES = (ROUNDS - SETTLED) * 4096 };

static float param[N], grad[N];

/* NULL, or what went wrong. */
static const char *load_step_unload(const char *path, int *most_threads) {
  struct loaded adamw;
  const char *problem = load(path, &adamw);
  if (problem)
    return problem;
  adamw_config config;
  adamw_optimizer *optimizer;
  uint32_t number;
  if (adamw.config_init(&config, sizeof config))
    return "adamw_config_init failed";
  config.num_threads = 2;
  if (adamw.create(&config, &optimizer) ||
      adamw.add_array(optimizer, "param", param, N, ADAMW_DTYPE_F32, &number) ||
      adamw.set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32) || adamw.step(optimizer))
    return "a call failed";
  int n_threads = process_threads();
  *most_threads = n_threads > *most_threads ? n_threads : *most_threads;
  if (adamw.destroy(optimizer))
    return "adamw_destroy failed";
  return dlclose(adamw.library) == 0 ? NULL : dlerror();
}

/* The threads there are when those that have ended are gone: the kernel wakes who joins a thread a
   moment before it takes the thread off its list. */
static int threads_left(int expected) {
  const struct timespec moment = {0, 1000000};
  for (int i = 0; i < 5000 && process_threads() != expected; i++)
    nanosleep(&moment, NULL);
  return process_threads();
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s path/to/libadamw.so\n", argv[0]);
    return 2;
  }
  int n_threads = process_threads(), most_threads = 0;
  long settled = 0;
  for (int round = 1; round <= ROUNDS; round++) {
    const char *problem = load_step_unload(argv[1], &most_threads);
    int left = threads_left(n_threads);
    if (problem || left != n_threads) {
      fprintf(stderr, "round %d: %s, %d threads, expected %d\n", round, problem ? problem : "done",
              left, n_threads);
      return 1;
    }
    if (round == SETTLED)
      settled = process_resident_bytes();
  }
  long growth = process_resident_bytes() - settled;
  void *still_there = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
  printf("%d threads at most, %ld bytes more after %d rounds, %s\n", most_threads, growth,
         ROUNDS - SETTLED, still_there ? "still mapped" : "unmapped");
  if (most_threads <= n_threads) {
    fprintf(stderr, "the library's threads never ran, so that this showed nothing\n");
    return 1;
  }
  return growth < MOST_GROWTH_BYTES ? 0 : 1;
}
