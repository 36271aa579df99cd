/* What --precision and --moments of the training programs choose: the bytes that parameters and moments are kept in. */
#ifndef PRECISION_H
#define PRECISION_H
#include <adamw.h>
#include <stddef.h>

typedef struct precision {
  const char *name;
  int in_bf16;
  uint32_t multi_precision;
  adamw_precision precision;
} precision;

typedef struct moments {
  const char *name;
  adamw_moments moments;
} moments;

#define PRECISION_NAMES "f32, or bf16 parameters with: nothing, master, split, stochastic, kahan"
#define MOMENTS_NAMES "f32, bf16, 8bit or 4bit"

/* The choice of this name, the first one for NULL; NULL: there is none. */
const precision *precision_find(const char *name);
const moments *moments_find(const char *name);

/* The f32 arrays that a network computes with, and what the optimizer steps: those or, beside each, one of bf16. */
enum { MAX_WEIGHTS = 64 };
typedef struct weights {
  const precision *kept;
  int count;
  struct {
    float *value;
    uint16_t *half; /* NULL: f32 */
    size_t count;
    uint32_t number; /* the optimizer's */
  } arrays[MAX_WEIGHTS];
} weights;

/* Adds value [count] to the optimizer, with its gradient [count] f32. ADAMW_STATUS_OUT_OF_MEMORY may be this function's
 * own. */
adamw_status weights_add(weights *all, adamw_optimizer *optimizer, const char *name, float *value, const float *grad,
                         size_t count);

/* Widens what a step has made of the bf16 arrays. */
void weights_take(const weights *all);

void weights_free(weights *all);

#endif
