/* Fits the line y = slope * x + intercept to five points with AdamW. */
#include <adamw.h>
#include <math.h>
#include <stdio.h>

int main(void) {
  const float x[5] = {-2, -1, 0, 1, 2};
  const float y[5] = {-5, -3, -1, 1, 3}; /* slope 2, intercept -1 */
  float line[2] = {0, 0};                /* {slope, intercept}: stays yours, is updated in place */
  float grad[2] = {0, 0};
  adamw_optimizer *optimizer = NULL;
  uint32_t param;

  adamw_config config;
  adamw_config_init(&config, sizeof config); /* the usual defaults */
  config.lr = 0.02;
  config.weight_decay = 0;

  if (adamw_create(&config, &optimizer) ||
      adamw_add_array(optimizer, "line", line, 2, ADAMW_DTYPE_F32, &param) ||
      adamw_set_grad_array(optimizer, param, grad, 2, ADAMW_DTYPE_F32))
    goto failed;

  for (int step = 0; step < 1000; step++) {
    for (int i = 0; i < 5; i++) { /* the gradient of the mean squared error, point by point */
      float error = line[0] * x[i] + line[1] - y[i];
      grad[0] += error * x[i] * 2 / 5;
      grad[1] += error * 2 / 5;
    }
    if (adamw_step(optimizer) || adamw_clear_grad(optimizer, ADAMW_CLEAR_ZERO))
      goto failed;
  }

  printf("slope %.4f, intercept %.4f\n", line[0], line[1]);
  adamw_destroy(optimizer);
  return fabsf(line[0] - 2) < 1e-3f && fabsf(line[1] + 1) < 1e-3f ? 0 : 1;

failed:
  fprintf(stderr, "adamw: %s\n", adamw_last_error());
  adamw_destroy(optimizer);
  return 1;
}
