/* Why bf16 parameters need an f32 master copy, and how to keep that copy in your own memory.
 *
 * Near 1, neighbouring bf16 numbers are 0.004 (below) and 0.008 (above) apart. A step of 0.0001 is less than half of
 * that, so it rounds back to where it came from, every time. With multi_precision the steps add up in an f32 master,
 * and the bf16 parameter is its rounded image.
 *
 * Tensors are described by adamw_tensor, which is DLPack's DLTensor: no conversion, no copy. */
#include <adamw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4, COLS = 8, N = ROWS * COLS, NUM_STEPS = 1000 };

static const double LR = 1e-4; /* with a constant gradient of 1 every step is -LR, so 1000 steps go from 1 to 0.9 */
static const double EXPECTED = 0.9;
static const uint16_t BF16_ONE = 0x3F80;

static int64_t shape[2] = {ROWS, COLS};

static void check(adamw_status status) {
  if (status == ADAMW_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(1);
}

static float bf16_to_f32(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16; /* bf16 is the upper half of f32 */
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

/* DLPack's codes: device 1 is the CPU; 2 is an IEEE float, 4 is bfloat. */
static adamw_tensor f32_tensor(float *data) {
  adamw_tensor tensor = {.data = data, .device = {ADAMW_DEVICE_CPU, 0}, .ndim = 2, .dtype = {ADAMW_CODE_FLOAT, 32, 1}, .shape = shape};
  return tensor;
}

static adamw_tensor bf16_tensor(uint16_t *data) {
  adamw_tensor tensor = {.data = data, .device = {ADAMW_DEVICE_CPU, 0}, .ndim = 2, .dtype = {ADAMW_CODE_BFLOAT, 16, 1}, .shape = shape};
  return tensor;
}

/* Takes NUM_STEPS steps down a constant gradient. `master` is the host's, or NULL for plain bf16. */
static void train(uint16_t *weights, float *master, const adamw_tensor *grad) {
  adamw_tensor weights_tensor = bf16_tensor(weights), master_tensor = f32_tensor(master);
  adamw_optimizer *optimizer;
  uint32_t param;

  adamw_config config;
  check(adamw_config_init(&config, sizeof config));
  config.lr = LR;
  config.weight_decay = 0;
  config.multi_precision = master != NULL;
  check(adamw_create(&config, &optimizer));

  adamw_param_config added = {.struct_size = sizeof added, .name = "weights", .param = &weights_tensor};
  if (master) added.master = &master_tensor;
  check(adamw_add_param(optimizer, &added, &param));
  check(adamw_sync_master(optimizer, param)); /* a master of the host's is taken as it is: fill it from the parameter */

  check(adamw_set_grad(optimizer, param, grad));
  for (int step = 0; step < NUM_STEPS; step++) check(adamw_step(optimizer));
  check(adamw_destroy(optimizer));
}

int main(void) {
  uint16_t plain[N], mixed[N], mixed_f32[N], grad_bf16[N];
  float master[N], master_f32[N], grad_f32[N];
  for (int i = 0; i < N; i++) {
    plain[i] = mixed[i] = mixed_f32[i] = grad_bf16[i] = BF16_ONE;
    grad_f32[i] = 1;
  }
  adamw_tensor bf16_grads = bf16_tensor(grad_bf16), f32_grads = f32_tensor(grad_f32);

  train(plain, NULL, &bf16_grads);
  train(mixed, master, &bf16_grads);
  train(mixed_f32, master_f32, &f32_grads);

  printf("%d steps of %g down from 1; exact: %g\n", NUM_STEPS, LR, EXPECTED);
  printf("                              parameter    master\n");
  printf("bf16, bf16 gradient           %.6f     -\n", bf16_to_f32(plain[0]));
  printf("bf16 + master, bf16 gradient  %.6f     %.6f\n", bf16_to_f32(mixed[0]), master[0]);
  printf("bf16 + master, f32 gradient   %.6f     %.6f\n", bf16_to_f32(mixed_f32[0]), master_f32[0]);

  for (int i = 0; i < N; i++) {
    int lost_without_master = plain[i] == BF16_ONE;
    int kept_by_master = fabs(master[i] - EXPECTED) < 1e-4 && master_f32[i] == master[i];
    int parameter_is_rounded_master = fabsf(bf16_to_f32(mixed[i]) - master[i]) < 0.002f && mixed_f32[i] == mixed[i];
    if (!lost_without_master || !kept_by_master || !parameter_is_rounded_master) {
      fprintf(stderr, "element %d is not as expected\n", i);
      return 1;
    }
  }
  return 0;
}
