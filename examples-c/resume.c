/* Training that can be killed at any moment and goes on where its last checkpoint was, with the same bits as a run that
 * was never killed.
 *
 * usage: resume <checkpoint> [step after which to be killed] */
#include <adamw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 1000, NUM_STEPS = 200, SAVE_EVERY = 10 };

static float weights[N], grad[N];

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

/* Numbers from -1 to 1. What a run needs beside its checkpoint it must be able to make again: here the data of a step
 * are a function of the step. */
static float noise(uint64_t seed) {
  seed = (seed + 1) * 0x9E3779B97F4A7C15u;
  seed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9u;
  return (float)(int32_t)(seed >> 32) / 2147483648.0f;
}

/* The weights are to become `noise(i)`, and are told so with an error that is another at every step. */
static void compute_grad(uint64_t step) {
  for (uint64_t i = 0; i < N; i++)
    grad[i] = weights[i] - noise(i) + 0.5f * noise(N + step * N + i);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s <checkpoint> [step after which to be killed]\n", argv[0]);
    return 2;
  }
  const char *path = argv[1];
  const uint64_t last = argc > 2 ? strtoull(argv[2], NULL, 10) : UINT64_MAX;

  adamw_optimizer *optimizer;
  uint32_t param;
  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.lr = 0.01;
  check(adamw_create(&config, &optimizer));
  check(adamw_add_array(optimizer, "weights", weights, N, ADAMW_DTYPE_F32, &param));
  check(adamw_set_grad_array(optimizer, param, grad, N, ADAMW_DTYPE_F32));

  adamw_schedule schedule = {.struct_size = sizeof schedule,
                             .kind = ADAMW_SCHEDULE_COSINE_WITH_WARMUP,
                             .lr = 0.01,
                             .warmup_steps = 20,
                             .total_steps = NUM_STEPS};
  check(adamw_set_lr_schedule(optimizer, &schedule));

  /* The weights are in the checkpoint, too. Without `params` they would be the host's to save. */
  adamw_save_args save = {.struct_size = sizeof save, .path = path, .params = 1};
  adamw_load_options load = {.struct_size = sizeof load, .params = 1};
  FILE *found = fopen(path, "rb");
  if (found) {
    fclose(found);
    check(adamw_load(optimizer, path, &load));
  }

  adamw_param_info info;
  check(adamw_get_param_info(optimizer, param, &info, sizeof info));
  fprintf(stderr, "starting at step %llu\n", (unsigned long long)info.step);
  for (uint64_t step = info.step; step < NUM_STEPS; step++) {
    compute_grad(step);
    check(adamw_step(optimizer));
    /* A thread writes a copy of this moment while the steps go on. */
    if ((step + 1) % SAVE_EVERY == 0) check(adamw_save_begin(optimizer, &save));
    if (step == last) raise(SIGKILL);
  }
  check(adamw_save_wait(optimizer, NULL, NULL)); /* the last file is whole now */

  for (int i = 0; i < N; i += 100)
    printf("%a\n", weights[i]); /* every bit */
  check(adamw_destroy(optimizer));
  return 0;
}
