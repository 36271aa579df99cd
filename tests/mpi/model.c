#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const names[PARAMS] = {"embedding", "gain", "weight", "bias", "nothing", "head"};
/* Some of many blocks, some cut by none, one of 1 element and one of none. */
const uint64_t lengths[PARAMS] = {30000, 1, 20000, 300, 0, 12345};

const format formats[] = {
    {"f32", ADAMW_DTYPE_F32, ADAMW_DTYPE_F32, 0, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32, 1},
    {"f64", ADAMW_DTYPE_F64, ADAMW_DTYPE_F64, 0, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32, 0},
    {"f64, grad f32", ADAMW_DTYPE_F64, ADAMW_DTYPE_F32, 0, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_F32, 0},
    {"f16, master, bf16 moments", ADAMW_DTYPE_F16, ADAMW_DTYPE_F16, 1, ADAMW_PRECISION_DEFAULT, ADAMW_MOMENTS_BF16, 0},
    {"bf16, split", ADAMW_DTYPE_BF16, ADAMW_DTYPE_BF16, 1, ADAMW_PRECISION_SPLIT, ADAMW_MOMENTS_F32, 0},
    {"bf16, grad f32, stochastic, 8 bits", ADAMW_DTYPE_BF16, ADAMW_DTYPE_F32, 0, ADAMW_PRECISION_STOCHASTIC,
     ADAMW_MOMENTS_8BIT, 0},
    {"bf16, Kahan, 4 bits", ADAMW_DTYPE_BF16, ADAMW_DTYPE_BF16, 0, ADAMW_PRECISION_KAHAN, ADAMW_MOMENTS_4BIT, 0},
};
const size_t num_formats = sizeof formats / sizeof *formats;

void check(adamw_status status) {
  if (!status) return;
  fprintf(stderr, "%s: %s\n", adamw_status_name(status), adamw_last_error());
  exit(2);
}

size_t size_of(adamw_dtype dtype) { return dtype == ADAMW_DTYPE_F64 ? 8 : dtype == ADAMW_DTYPE_F32 ? 4 : 2; }

static uint64_t mixed(uint64_t z) {
  z = (z + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Values whose magnitudes go from 1/128 to 1, with all the bits that the type has. */
static void fill(void *to, adamw_dtype dtype, uint64_t n, uint64_t seed) {
  for (uint64_t i = 0; i < n; i++) {
    uint64_t bits = mixed(seed * 0x10001 + i);
    float value = (float)(int32_t)(bits >> 32) / 2147483648.0f;
    uint32_t sign = (uint32_t)(bits >> 31 & 1) << 15, octave = (uint32_t)(bits >> 24 & 7);
    if (dtype == ADAMW_DTYPE_F64)
      ((double *)to)[i] = (double)value + (double)(bits & 1023) * 1e-12;
    else if (dtype == ADAMW_DTYPE_F32)
      ((float *)to)[i] = value;
    else if (dtype == ADAMW_DTYPE_BF16)
      ((uint16_t *)to)[i] = (uint16_t)(sign | (119 + octave) << 7 | (bits & 127));
    else
      ((uint16_t *)to)[i] = (uint16_t)(sign | (7 + octave) << 10 | (bits & 1023));
  }
}

void model_new(model *m, const format *format) {
  m->format = format;
  for (int i = 0; i < PARAMS; i++) {
    m->values[i] = malloc(lengths[i] * size_of(format->dtype) + 1);
    m->grads[i] = malloc(lengths[i] * size_of(format->grad_dtype) + 1);
    if (!m->values[i] || !m->grads[i]) exit(2);
    fill(m->values[i], format->dtype, lengths[i], (uint64_t)i);
  }
}

void model_free(model *m) {
  for (int i = 0; i < PARAMS; i++) {
    free(m->values[i]);
    free(m->grads[i]);
  }
}

void model_compute_grads(model *m, uint64_t step, int part) {
  for (int i = 0; i < PARAMS; i++)
    fill(m->grads[i], m->format->grad_dtype, lengths[i], ((step + 1) * PARTS + (uint64_t)part) * PARAMS + (uint64_t)i);
}

uint64_t hash_bytes(uint64_t hash, const void *data, size_t n) {
  for (size_t i = 0; i < n; i++) hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001B3u;
  return hash;
}

uint64_t model_hash(const model *m) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (int i = 0; i < PARAMS; i++) hash = hash_bytes(hash, m->values[i], lengths[i] * size_of(m->format->dtype));
  return hash;
}

uint32_t group_of(int param) { return param % 2 ? 1 : 0; }

adamw_optimizer *create(const format *format, adamw_nonfinite nonfinite) {
  adamw_optimizer *optimizer;
  adamw_config config;
  adamw_group_config group;
  uint32_t number;
  check(adamw_config_init(&config, sizeof config));
  config.lr = 0.01;
  config.clip = ADAMW_CLIP_GLOBAL_NORM;
  config.clip_norm = 1;
  config.num_threads = 1;
  config.nonfinite = nonfinite;
  config.seed = 5;
  config.multi_precision = format->multi_precision;
  config.precision = format->precision;
  config.moments = format->moments;
  config.amsgrad = format->amsgrad;
  check(adamw_create(&config, &optimizer));
  check(adamw_group_config_init(optimizer, &group, sizeof group));
  group.weight_decay = 0;
  group.lr_scale = 2;
  check(adamw_add_group(optimizer, &group, &number));
  return optimizer;
}
