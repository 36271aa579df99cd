// What the host describes, and what comes of it: `src/cuda/layout.rs` has the same layouts, asserted on both sides.
#pragma once
#include "math.cuh"
#include "storage.cuh"

// Elements of a chunk, which one block of threads works on.
const u32 CHUNK = 16384;

// How a parameter is kept between steps; numbered as `format::Kept`.
enum Kept : u32 { KEPT_ITSELF, KEPT_MASTER, KEPT_SPLIT, KEPT_KAHAN, KEPT_STOCHASTIC };

// How moments are kept; numbered as `format::MomentFormat`.
enum MomentFormat : u32 { MOMENTS_FULL, MOMENTS_BF16, MOMENTS_BYTES, MOMENTS_NIBBLES };

// The memory of one parameter. Addresses are in global memory; 0: it has no such tensor.
struct Tensor {
  u64 param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq;
  u64 rest; // the master, the remainder or the compensation
  u64 exp_avg_scale, exp_avg_sq_scale, max_exp_avg_sq_scale;
  u64 n_elements;
  u64 first_element; // of the whole parameter
  u64 first_chunk;   // where its chunks begin in the table of chunks
  u32 key[2];
  Kept kept;
  u32 rows; // 1 more than where its sparse gradient is among those of the step; 0: it has a dense one
};
static_assert(sizeof(Tensor) == 112, "as layout.rs has it");

// How a gradient is clipped; by value is a limit beside it.
enum Clip : u32 { CLIP_NONE, CLIP_NORM, CLIP_GLOBAL_NORM };

// What one parameter is stepped with, but for what is known on the device alone.
struct Hyper {
  double group_lr_scale, lr_scale, beta1, beta2, eps, weight_decay;
  double mean; // makes a sum of gradients their mean
  double min, max, coefficient;
  double largest_norm;
  double clip_factor; // where the host has decided
  Clip clip;
  u32 scope; // of a global norm
  Regularizer regularizer;
  u32 limited, maximize;
  u32 stepped; // whether it is
  u32 is_f64;  // whether it computes in f64
  u32 independent_weight_decay;
};
static_assert(sizeof(Hyper) == 128, "as layout.rs has it");

// How far a parameter has come.
struct Clock {
  u64 step;
  double beta1_power, beta2_power;
};
static_assert(sizeof(Clock) == 24, "as layout.rs has it");

// What all parameters are stepped with: numbers of the host's, or f32s in global memory.
struct Inputs {
  double lr, inv_grad_scale;
  double largest_lr; // that can be read
  const float *lr_at, *grad_scale_at, *found_inf_at; // 0: there is none
};
static_assert(sizeof(Inputs) == 48, "as layout.rs has it");

// What the gradient of one parameter adds up to.
struct Total {
  double sum_squares;
  u64 n_nonfinite;
};
static_assert(sizeof(Total) == 16, "as layout.rs has it");

// What all gradients come to.
struct Verdict {
  double sum_squares, inv_grad_scale;
  double clip_factor; // the smallest
  u64 n_nonfinite;
  u32 invalid; // whether a number was read that no step can use
  u32 skipped;
};
static_assert(sizeof(Verdict) == 40, "as layout.rs has it");

// Elements `number * CHUNK` on of a tensor.
struct Chunk {
  u32 tensor, number;
};
static_assert(sizeof(Chunk) == 8, "as layout.rs has it");

// The element types of a sparse gradient's values, and what they are widened to: numbered as `layout.rs` has it.
enum Values : u32 { VALUES_F32, VALUES_F16, VALUES_BF16, VALUES_F64, VALUES_F32_IN_F64 };

// A sparse gradient `[n, row_elements]` of a tensor `[height, row_elements]`. Addresses are in global memory.
struct Rows {
  u64 numbers;         // [n] of the rows, i32 or i64
  u64 values;          // [n, row_elements]
  u64 grad;            // [height, row_elements] in the compute type: the tensor's gradient
  u64 entries, spare;  // [n] u64, the first sorted
  u64 counts;          // [tiles, 256] u32
  u64 gathered;        // [6] u64: `Gathered`
  u64 lag;             // `Lag`; 0: no row lags
  u64 n, row_elements, height;
  u32 tensor;
  Values type;
  u32 is_long; // whether numbers are i64
  u32 reserved;
};
static_assert(sizeof(Rows) == 104, "as layout.rs has it");

// What the library's gradient of a tensor holds, in words of 64 bits: the list that was gathered last. And of the
// first row that was not below the height, until the host asks: 1 more than its place, or 0; the row; the height.
enum Gathered : u32 { GATHERED_N, GATHERED_ROW_ELEMENTS, GATHERED_HEIGHT, OUTSIDE_PLACE, OUTSIDE_ROW, OUTSIDE_HEIGHT };

// The constants of a step in both compute types.
struct Scalars {
  u64 step;
  StepScalars<float> f32;
  StepScalars<double> f64;

  __device__ __forceinline__ const StepScalars<float> &of(float) const { return f32; }
  __device__ __forceinline__ const StepScalars<double> &of(double) const { return f64; }
};
static_assert(sizeof(Scalars) == 8 + 52 + 4 + 96, "as layout.rs has it");

// What all tensors of a launch have in common.
enum Flags : u32 { FLAG_AMSGRAD = 1, FLAG_CLEAR_GRADS = 2, FLAG_F32_GRADS = 4, FLAG_NO_GRADS = 8 };
