/* A training loop inside one parallel region of OpenMP: its threads compute the gradients and take the step together. */
#include <adamw.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 1 << 20, STEPS = 30 };

static float weights[N], grad[N];

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static float target(int i) { return (float)(i % 1000) / 1000; }

int main(void) {
  adamw_optimizer *optimizer;
  adamw_config config;
  uint32_t number;
  check(adamw_config_init(&config, sizeof config));
  config.lr = 0.02;
  config.num_threads = 1; /* the step uses those of OpenMP */
  check(adamw_create(&config, &optimizer));
  check(adamw_add_array(optimizer, "weights", weights, N, ADAMW_DTYPE_F32, &number));
  check(adamw_set_grad_array(optimizer, number, grad, N, ADAMW_DTYPE_F32));
#pragma omp parallel
  for (int step = 0; step < STEPS; step++) {
#pragma omp for
    for (int i = 0; i < N; i++) grad[i] = weights[i] - target(i);

#pragma omp single
    check(adamw_step_begin(optimizer)); /* a barrier follows */
    adamw_step_work(optimizer);
#pragma omp single
    check(adamw_step_end(optimizer)); /* a barrier follows */
  }
  double loss = 0;
  for (int i = 0; i < N; i++) loss += (weights[i] - target(i)) * (weights[i] - target(i));
  printf("loss after %d steps: %.4f\n", STEPS, loss / N);
  check(adamw_destroy(optimizer));
  return loss / N < 0.1 ? 0 : 1;
}
