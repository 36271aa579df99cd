#include "large.h"
#include <string.h>

static float value(uint32_t i) { return (float)((int32_t)(i * 2654435761u) >> 8) / (1 << 23); }

static uint16_t bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)(bits >> 16);
}

void large_fill(struct large *large) {
  memset(large, 0, sizeof *large);
  for (uint32_t i = 0; i < LARGE_F32; i++)
    large->f32[i] = value(i), large->f32_grad[i] = value(i + 1);
  for (uint32_t i = 0; i < LARGE_BF16; i++)
    large->coded[i] = large->bf16[i] = bf16(value(i + 2)), large->bf16_grad[i] = bf16(value(i + 3));
  for (uint32_t i = 0; i < LARGE_F64; i++)
    large->f64[i] = (double)value(i + 4) / 3, large->f64_grad[i] = (double)value(i + 5) / 3;
  for (uint32_t i = 0; i < LARGE_F16; i++)
    large->f16[i] = (uint16_t)(0x3c00 + i), large->f16_grad[i] = value(i + 6);
}

static adamw_status add_coded(struct large *large, adamw_optimizer *optimizer) {
  int64_t shape[1] = {LARGE_BF16};
  const adamw_tensor coded = {large->coded, {1, 0}, 1, {4, 16, 1}, shape, NULL, 0};
  adamw_param_config config = {.struct_size = sizeof config, .name = "coded", .param = &coded};
  adamw_group_config group;
  uint32_t number;
  adamw_status status = adamw_group_config_init(optimizer, &group, sizeof group);
  group.precision = ADAMW_PRECISION_STOCHASTIC;
  group.moments = ADAMW_MOMENTS_8BIT;
  if (!status)
    status = adamw_add_group(optimizer, &group, &config.group);
  if (!status)
    status = adamw_add_param(optimizer, &config, &number);
  return status ? status
                : adamw_set_grad_array(optimizer, number, large->bf16_grad, LARGE_BF16,
                                       ADAMW_DTYPE_BF16);
}

static adamw_status add_all(struct large *large, adamw_optimizer *optimizer) {
  int64_t shape[1] = {LARGE_F32};
  const adamw_tensor f32 = {large->f32, {1, 0}, 1, {2, 32, 1}, shape, NULL, 0};
  const adamw_tensor exp_avg = {large->exp_avg, {1, 0}, 1, {2, 32, 1}, shape, NULL, 0};
  const adamw_tensor exp_avg_sq = {large->exp_avg_sq, {1, 0}, 1, {2, 32, 1}, shape, NULL, 0};
  const adamw_param_config config = {.struct_size = sizeof config,
                                     .name = "f32",
                                     .param = &f32,
                                     .exp_avg = &exp_avg,
                                     .exp_avg_sq = &exp_avg_sq};
  const struct {
    const char *name;
    void *param, *grad;
    uint64_t n_elements;
    adamw_dtype dtype, grad_dtype;
  } arrays[] = {
      {"bf16", large->bf16, large->bf16_grad, LARGE_BF16, ADAMW_DTYPE_BF16, ADAMW_DTYPE_BF16},
      {"f64", large->f64, large->f64_grad, LARGE_F64, ADAMW_DTYPE_F64, ADAMW_DTYPE_F64},
      {"f16", large->f16, large->f16_grad, LARGE_F16, ADAMW_DTYPE_F16, ADAMW_DTYPE_F32},
  };
  uint32_t number;
  adamw_status status = adamw_add_param(optimizer, &config, &number);
  if (!status)
    status = adamw_set_grad_array(optimizer, number, large->f32_grad, LARGE_F32, ADAMW_DTYPE_F32);
  for (int i = 0; i < 3 && !status; i++) {
    status = adamw_add_array(optimizer, arrays[i].name, arrays[i].param, arrays[i].n_elements,
                             arrays[i].dtype, &number);
    if (!status)
      status = adamw_set_grad_array(optimizer, number, arrays[i].grad, arrays[i].n_elements,
                                    arrays[i].grad_dtype);
  }
  return status ? status : add_coded(large, optimizer);
}

adamw_status large_create(struct large *large, const adamw_config *config,
                          adamw_optimizer **out_optimizer) {
  adamw_config with_master = *config;
  adamw_optimizer *optimizer;
  with_master.multi_precision = 1;
  with_master.amsgrad = 0;
  adamw_status status = adamw_create(&with_master, &optimizer);
  if (status)
    return status;
  status = add_all(large, optimizer);
  if (status) /* the status of what failed is the one that says why */
    adamw_destroy(optimizer);
  else
    *out_optimizer = optimizer;
  return status;
}
