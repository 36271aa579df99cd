/* One process without MPI: what any number of ranks must equal, to the bit.
 *
 * usage: plain <steps>               trains from the start
 *        plain <steps> <directory>   goes on from what ranks have saved there, each format in a folder of its number
 *        plain <steps> of <parts>    trains from the start, by gradients of so many parts
 *        plain load <directory>      loads the f32 model from there, and prints its step
 *
 * It prints the hash of all parameters and all state of each format. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 16 };
static int num_parts = PARTS;

static void add_params(adamw_optimizer *optimizer, model *m) {
  for (int i = 0; i < PARAMS; i++) {
    uint32_t number;
    int64_t shape = (int64_t)lengths[i];
    adamw_tensor tensor = {.data = m->values[i], .device = {ADAMW_DEVICE_CPU, 0}, .ndim = 1, .shape = &shape};
    tensor.dtype.code = m->format->dtype == ADAMW_DTYPE_BF16 ? ADAMW_CODE_BFLOAT : ADAMW_CODE_FLOAT;
    tensor.dtype.bits = (uint8_t)(8 * size_of(m->format->dtype));
    tensor.dtype.lanes = 1;
    const adamw_param_config config = {.struct_size = sizeof config,
                                       .name = names[i],
                                       .param = &tensor,
                                       .group = group_of(i),
                                       .whole_elements = lengths[i]};
    check(adamw_add_param(optimizer, &config, &number));
  }
}

/* The files that `checkpoint` in the directory names. */
static void load(adamw_optimizer *optimizer, const char *directory) {
  static char paths[MAX_FILES][1024];
  adamw_source sources[MAX_FILES];
  const adamw_source *list[MAX_FILES];
  char path[1024], name[128];
  size_t n = 0;
  snprintf(path, sizeof path, "%s/checkpoint", directory);
  FILE *file = fopen(path, "r");
  if (!file) {
    perror(path);
    exit(2);
  }
  for (; n < MAX_FILES && fscanf(file, "%127s", name) == 1; n++) {
    snprintf(paths[n], sizeof paths[n], "%s/%s", directory, name);
    sources[n] = (adamw_source){.struct_size = sizeof(adamw_source), .path = paths[n]};
    list[n] = &sources[n];
  }
  fclose(file);
  const adamw_load_options options = {.struct_size = sizeof options, .params = 1};
  check(adamw_load_from(optimizer, list, n, &options));
}

/* The gradients of the parts, added up in their order from 0 on. */
static float widened(const void *from, adamw_dtype dtype, uint64_t i) {
  if (dtype == ADAMW_DTYPE_F32) return ((const float *)from)[i];
  uint32_t half = ((const uint16_t *)from)[i];
  uint32_t bits = half << 16;
  if (dtype == ADAMW_DTYPE_F16) /* gradients here are normal numbers */
    bits = (half & 0x8000) << 16 | ((half >> 10 & 31) + 112) << 23 | (half & 1023) << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void step(adamw_optimizer *optimizer, model *m, uint64_t number, void *const *sums) {
  const int is_f64 = m->format->dtype == ADAMW_DTYPE_F64;
  for (int part = 0; part < num_parts; part++) {
    model_compute_grads(m, number, part);
    for (int i = 0; i < PARAMS; i++)
      for (uint64_t e = 0; e < lengths[i]; e++) {
        if (is_f64) {
          double *sum = (double *)sums[i] + e;
          double grad = m->format->grad_dtype == ADAMW_DTYPE_F64 ? ((double *)m->grads[i])[e]
                                                                 : (double)((float *)m->grads[i])[e];
          *sum = (part ? *sum : 0) + grad;
        } else {
          float *sum = (float *)sums[i] + e;
          *sum = (part ? *sum : 0) + widened(m->grads[i], m->format->grad_dtype, e);
        }
      }
  }
  for (uint32_t i = 0; i < PARAMS; i++)
    check(adamw_set_grad_array(optimizer, i, sums[i], lengths[i], is_f64 ? ADAMW_DTYPE_F64 : ADAMW_DTYPE_F32));
  check(adamw_step(optimizer));
}

static uint64_t hash_state(adamw_optimizer *optimizer, const model *m) {
  uint64_t hash = model_hash(m);
  for (uint32_t i = 0; i < PARAMS; i++)
    for (adamw_buffer buffer = ADAMW_BUFFER_MASTER; buffer <= ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE; buffer++) {
      adamw_state_info info;
      if (adamw_get_state_info(optimizer, i, buffer, &info, sizeof info)) continue;
      if (info.data) hash = hash_bytes(hash, info.data, info.n_elements * (info.dtype == ADAMW_DTYPE_U8 ? 1 : size_of(info.dtype)));
    }
  return hash;
}

int main(int argc, char **argv) {
  const int loads = argc == 3 && strcmp(argv[1], "load") == 0;
  const int is_of = argc == 4 && strcmp(argv[2], "of") == 0;
  if (is_of) num_parts = atoi(argv[3]);
  const uint64_t steps = loads || argc < 2 ? 0 : strtoull(argv[1], NULL, 10);
  for (size_t f = 0; f < (loads ? 1 : num_formats); f++) {
    model m;
    adamw_optimizer *optimizer = create(&formats[f], ADAMW_NONFINITE_SKIP);
    char directory[512];
    void *sums[PARAMS];
    model_new(&m, &formats[f]);
    add_params(optimizer, &m);
    snprintf(directory, sizeof directory, loads ? "%s" : "%s/%d", argc > 2 ? argv[2] : "", (int)f);
    if (argc > 2 && !is_of) load(optimizer, directory);
    for (int i = 0; i < PARAMS; i++)
      if (!(sums[i] = calloc(lengths[i] + 1, 8))) return 2;
    adamw_param_info info;
    check(adamw_get_param_info(optimizer, 0, &info, sizeof info));
    for (uint64_t at = info.step; at < steps; at++) step(optimizer, &m, at, sums);
    if (loads)
      printf("%d\n", (int)info.step);
    else
      printf("%s: %016llx\n", m.format->name, (unsigned long long)hash_state(optimizer, &m));
    for (int i = 0; i < PARAMS; i++) free(sums[i]);
    check(adamw_destroy(optimizer));
    model_free(&m);
  }
  return 0;
}
