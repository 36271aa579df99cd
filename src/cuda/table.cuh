// What the host describes: the layouts are asserted on both sides.
#pragma once
#include "math.cuh"
#include "storage.cuh"

// Elements of a chunk, which one block of threads works on.
const u32 CHUNK = 16384;

// How a parameter is kept between steps; numbered as `format::Kept`.
enum Kept : u32 { KEPT_ITSELF, KEPT_MASTER, KEPT_SPLIT, KEPT_KAHAN, KEPT_STOCHASTIC };

// One parameter. Addresses are in global memory; 0: it has no such tensor.
struct Tensor {
  u64 param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq;
  u64 rest; // the master, the remainder or the compensation
  u64 exp_avg_scale, exp_avg_sq_scale, max_exp_avg_sq_scale;
  u64 n_elements;
  u64 first_element; // of the whole parameter
  u32 key[2];
  u32 scalars; // which of the step's
  Kept kept;
};
static_assert(sizeof(Tensor) == 104, "as tests/common/kernels.rs has it");

// Elements `number * CHUNK` on of a tensor.
struct Chunk {
  u32 tensor, number;
};
static_assert(sizeof(Chunk) == 8, "as tests/common/kernels.rs has it");

// The constants of a step in both compute types.
struct Scalars {
  u64 step;
  StepScalars<float> f32;
  StepScalars<double> f64;

  __device__ __forceinline__ const StepScalars<float> &of(float) const { return f32; }
  __device__ __forceinline__ const StepScalars<double> &of(double) const { return f64; }
};
static_assert(sizeof(Scalars) == 8 + 52 + 4 + 96, "as tests/common/kernels.rs has it");

// What all tensors of a launch have in common.
enum Flags : u32 { FLAG_AMSGRAD = 1, FLAG_CLEAR_GRADS = 2, FLAG_F32_GRADS = 4 };
