/* A model of a few parameters in any format, and gradients that are a function of step, part and element. */
#ifndef MODEL_H
#define MODEL_H
#include <adamw.h>
#include <stddef.h>

enum { PARAMS = 6, PARTS = 6 };

/* What is kept in which bytes. */
typedef struct format {
  const char *name;
  adamw_dtype dtype, grad_dtype;
  uint32_t multi_precision;
  adamw_precision precision;
  adamw_moments moments;
  uint32_t amsgrad;
} format;
extern const format formats[];
extern const size_t num_formats;

typedef struct model {
  const format *format;
  void *values[PARAMS], *grads[PARAMS];
} model;

extern const char *const names[PARAMS];
extern const uint64_t lengths[PARAMS];

size_t size_of(adamw_dtype dtype);
void model_new(model *m, const format *format); /* exits if there is no memory */
void model_free(model *m);
void model_compute_grads(model *m, uint64_t step, int part);
uint64_t hash_bytes(uint64_t hash, const void *data, size_t n);
uint64_t model_hash(const model *m);

/* A handle that clips all gradients together, skips what is not finite, and has a second group. */
adamw_optimizer *create(const format *format, adamw_nonfinite nonfinite);
uint32_t group_of(int param);

/* Exits with the text of the library. */
void check(adamw_status status);

#endif
