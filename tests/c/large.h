/* A handle with so many elements that a step is shared among threads, and all its memory. */
#ifndef LARGE_H
#define LARGE_H

#include <adamw.h>
#include <stdint.h>

enum { LARGE_F32 = 600011, LARGE_BF16 = 50021, LARGE_F64 = 30011, LARGE_F16 = 7 };

struct large {
  float f32[LARGE_F32], f32_grad[LARGE_F32], exp_avg[LARGE_F32], exp_avg_sq[LARGE_F32];
  uint16_t bf16[LARGE_BF16], bf16_grad[LARGE_BF16], coded[LARGE_BF16];
  double f64[LARGE_F64], f64_grad[LARGE_F64];
  uint16_t f16[LARGE_F16];
  float f16_grad[LARGE_F16];
};

/* The same values every time. */
void large_fill(struct large *large);

/* Creates a handle whose parameters are `large`, with their gradients set: the f32 one has its
   moments in `large`, one of bf16 has a master, the other is rounded at random and has 8-bit
   moments. `config` gives the threads. */
adamw_status large_create(struct large *large, const adamw_config *config,
                          adamw_optimizer **out_optimizer);

#endif
