/* What ranks cost where there is one: the step of a handle with an all_reduce, beside that of one without, and of another
 * one without. Medians of rounds that take turns.
 *
 * usage: one <elements> [unclipped] */
#define _POSIX_C_SOURCE 200809L
#include <adamw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 21, HANDLES = 3, RANK = 1 };

static void need(adamw_status status) {
  if (!status) return;
  fprintf(stderr, "%s\n", adamw_last_error());
  exit(2);
}

static int32_t one_rank(double *buffer, size_t count, void *user_data) {
  (void)buffer, (void)count, (void)user_data;
  return 0;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  const uint64_t n = strtoull(argv[1], NULL, 10), repeats = n < 1 << 22 ? (1 << 22) / n : 1;
  float *grads = malloc(n * sizeof *grads);
  adamw_optimizer *optimizers[HANDLES];
  double times[HANDLES][ROUNDS];
  if (!grads) return 2;
  for (uint64_t i = 0; i < n; i++) grads[i] = (float)(i % 1009 + 1) / 512;
  for (int handle = 0; handle < HANDLES; handle++) {
    adamw_config config;
    uint32_t number;
    float *values = malloc(n * sizeof *values);
    if (!values) return 2;
    memcpy(values, grads, n * sizeof *values);
    need(adamw_config_init(&config, sizeof config));
    config.num_threads = 1;
    if (argc < 3) {
      config.clip = ADAMW_CLIP_GLOBAL_NORM;
      config.clip_norm = 1;
    }
    need(adamw_create(&config, &optimizers[handle]));
    need(adamw_add_array(optimizers[handle], "weights", values, n, ADAMW_DTYPE_F32, &number));
    need(adamw_set_grad_array(optimizers[handle], number, grads, n, ADAMW_DTYPE_F32));
    if (handle == RANK) need(adamw_set_all_reduce(optimizers[handle], one_rank, NULL));
    need(adamw_step(optimizers[handle]));
  }
  for (int round = 0; round < ROUNDS; round++)
    for (int i = 0; i < HANDLES; i++) {
      const int handle = (round + i) % HANDLES;
      const double before = now();
      for (uint64_t repeat = 0; repeat < repeats; repeat++) need(adamw_step(optimizers[handle]));
      times[handle][round] = (now() - before) / (double)repeats;
    }
  for (int handle = 0; handle < HANDLES; handle++) qsort(times[handle], ROUNDS, sizeof(double), ascending);
  const double *plain = times[0], *rank = times[RANK], *again = times[2];
  printf("%llu elements, %s: %.3f us, one rank %.3f us (%.3f), again without %.3f us (%.3f)\n", (unsigned long long)n,
         argc < 3 ? "clipped" : "unclipped", 1e6 * plain[ROUNDS / 2], 1e6 * rank[ROUNDS / 2],
         rank[ROUNDS / 2] / plain[ROUNDS / 2], 1e6 * again[ROUNDS / 2], again[ROUNDS / 2] / plain[ROUNDS / 2]);
  return 0;
}
