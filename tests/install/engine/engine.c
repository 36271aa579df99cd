#include "engine.h"

#include <adamw.h>

float engine_slope(void) {
  float slope = 0, grad = 0;
  adamw_optimizer *optimizer = NULL;
  uint32_t param;
  adamw_config config;
  adamw_config_init(&config, sizeof config);
  config.lr = 0.02;
  config.weight_decay = 0;
  if (adamw_create(&config, &optimizer) ||
      adamw_add_array(optimizer, "slope", &slope, 1, ADAMW_DTYPE_F32, &param) ||
      adamw_set_grad_array(optimizer, param, &grad, 1, ADAMW_DTYPE_F32))
    return 0;
  for (int step = 0; step < 1000; step++) {
    grad = slope - 2;
    adamw_step(optimizer);
  }
  adamw_destroy(optimizer);
  return slope;
}
