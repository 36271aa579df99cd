#include "precision.h"

#include <stdlib.h>
#include <string.h>

const precision *precision_find(const char *name) {
  static const precision KNOWN[] = {
      {"f32", 0, 0, ADAMW_PRECISION_DEFAULT},  {"nothing", 1, 0, ADAMW_PRECISION_DEFAULT},
      {"master", 1, 1, ADAMW_PRECISION_DEFAULT}, {"split", 1, 0, ADAMW_PRECISION_SPLIT},
      {"stochastic", 1, 0, ADAMW_PRECISION_STOCHASTIC}, {"kahan", 1, 0, ADAMW_PRECISION_KAHAN},
  };
  for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
    if (!name || strcmp(KNOWN[i].name, name) == 0) return &KNOWN[i];
  return NULL;
}

const moments *moments_find(const char *name) {
  static const moments KNOWN[] = {
      {"f32", ADAMW_MOMENTS_F32}, {"bf16", ADAMW_MOMENTS_BF16}, {"8bit", ADAMW_MOMENTS_8BIT},
      {"4bit", ADAMW_MOMENTS_4BIT}};
  for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
    if (!name || strcmp(KNOWN[i].name, name) == 0) return &KNOWN[i];
  return NULL;
}

static uint16_t narrowed(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* to nearest even; weights are finite */
}

static float widened(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

adamw_status weights_add(weights *all, adamw_optimizer *optimizer, const char *name, float *value, const float *grad,
                         size_t count) {
  uint16_t *half = NULL;
  uint32_t number;
  if (all->count == MAX_WEIGHTS) return ADAMW_STATUS_OUT_OF_MEMORY;
  if (all->kept->in_bf16) {
    half = malloc(count * sizeof *half);
    if (!half) return ADAMW_STATUS_OUT_OF_MEMORY;
    for (size_t i = 0; i < count; i++) {
      half[i] = narrowed(value[i]);
      value[i] = widened(half[i]);
    }
  }
  adamw_status status = adamw_add_array(optimizer, name, half ? (void *)half : value, count,
                                        half ? ADAMW_DTYPE_BF16 : ADAMW_DTYPE_F32, &number);
  if (status == ADAMW_STATUS_OK)
    status = adamw_set_grad_array(optimizer, number, (void *)grad, count, ADAMW_DTYPE_F32);
  if (status != ADAMW_STATUS_OK) {
    free(half);
    return status;
  }
  all->arrays[all->count].value = value;
  all->arrays[all->count].half = half;
  all->arrays[all->count].count = count;
  all->arrays[all->count++].number = number;
  return ADAMW_STATUS_OK;
}

void weights_take(const weights *all) {
  for (int a = 0; a < all->count; a++)
    if (all->arrays[a].half)
      for (size_t i = 0; i < all->arrays[a].count; i++) all->arrays[a].value[i] = widened(all->arrays[a].half[i]);
}

void weights_free(weights *all) {
  for (int a = 0; a < all->count; a++) free(all->arrays[a].half);
}
