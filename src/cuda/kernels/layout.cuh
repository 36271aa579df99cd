// The layouts that the host and the kernels share. `src/cuda/layout.rs` declares them, too: both
// sides assert the same size, and the same place of each field.
#pragma once
#include "math.cuh"
#include "storage.cuh"

// Asserts where a field starts, in bytes.
#define AT(place, layout, field)                                                                   \
  static_assert((u64) & ((layout *)0)->field == place, "as layout.rs has it")

// The elements of a chunk, which one block of threads works on.
const u32 CHUNK = 16384;

// The form in which a parameter is kept between steps, with the numbers of `format::Kept`.
enum Kept : u32 { KEPT_ITSELF, KEPT_MASTER, KEPT_SPLIT, KEPT_KAHAN, KEPT_STOCHASTIC };

// The format of moments, with the numbers of `format::MomentFormat`.
enum MomentFormat : u32 { MOMENTS_FULL, MOMENTS_BF16, MOMENTS_BYTES, MOMENTS_NIBBLES };

// The memory of one parameter. Addresses are in global memory; 0: there is no such tensor.
struct Tensor {
  u64 param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq;
  u64 rest; // the master, or the remainder
  u64 exp_avg_scale, exp_avg_sq_scale, max_exp_avg_sq_scale;
  u64 n_elements;
  u64 first_element; // the place of its first element in the whole tensor
  u64 first_chunk;   // the place of its first chunk in the table of chunks
  u32 key[2];
  Kept kept;
  u32 rows; // 1 more than the place of its sparse gradient among those of the step; 0: the gradient
            // is dense
};
static_assert(sizeof(Tensor) == 112, "as layout.rs has it");
AT(0, Tensor, param);
AT(8, Tensor, grad);
AT(16, Tensor, exp_avg);
AT(24, Tensor, exp_avg_sq);
AT(32, Tensor, max_exp_avg_sq);
AT(40, Tensor, rest);
AT(48, Tensor, exp_avg_scale);
AT(56, Tensor, exp_avg_sq_scale);
AT(64, Tensor, max_exp_avg_sq_scale);
AT(72, Tensor, n_elements);
AT(80, Tensor, first_element);
AT(88, Tensor, first_chunk);
AT(96, Tensor, key);
AT(104, Tensor, kept);
AT(108, Tensor, rows);

// The powers that correct moments, with the numbers of `config::BiasCorrection`.
enum BiasCorrection : u32 { CORRECTION_BY_PRODUCTS, CORRECTION_BY_CURRENT, CORRECTION_NONE };

// Clipping by norm; clipping by value is a limit beside it.
enum Clip : u32 { CLIP_NONE, CLIP_NORM, CLIP_GLOBAL_NORM };

// The part that a parameter has in a step: none; it is stepped; or only its sums count, which come
// from outside.
enum Part : u32 { PART_NONE, PART_STEPPED, PART_COUNTED };

// The hyper-parameters of one parameter's step, except for what the device alone knows.
struct Hyper {
  double group_lr_scale, lr_scale, beta1, beta2, eps, weight_decay;
  double mean; // the factor that makes a sum of gradients their mean
  double min, max, coefficient;
  double largest_norm;
  double clip_factor; // if the host has decided
  Clip clip;
  u32 scope; // the scope of the global norm
  Regularizer regularizer;
  u32 limited, maximize;
  Part part;
  u32 is_f64; // in f64
  u32 independent_weight_decay;
  BiasCorrection bias_correction;
  u32 formula; // flags of `Formula`
};
static_assert(sizeof(Hyper) == 136, "as layout.rs has it");
AT(0, Hyper, group_lr_scale);
AT(8, Hyper, lr_scale);
AT(16, Hyper, beta1);
AT(24, Hyper, beta2);
AT(32, Hyper, eps);
AT(40, Hyper, weight_decay);
AT(48, Hyper, mean);
AT(56, Hyper, min);
AT(64, Hyper, max);
AT(72, Hyper, coefficient);
AT(80, Hyper, largest_norm);
AT(88, Hyper, clip_factor);
AT(96, Hyper, clip);
AT(100, Hyper, scope);
AT(104, Hyper, regularizer);
AT(108, Hyper, limited);
AT(112, Hyper, maximize);
AT(116, Hyper, part);
AT(120, Hyper, is_f64);
AT(124, Hyper, independent_weight_decay);
AT(128, Hyper, bias_correction);
AT(132, Hyper, formula);

// The number of steps that a parameter has taken, and its running products.
struct Clock {
  u64 step;
  double beta1_power, beta2_power;
};
static_assert(sizeof(Clock) == 24, "as layout.rs has it");
AT(0, Clock, step);
AT(8, Clock, beta1_power);
AT(16, Clock, beta2_power);

// The state of a loss scale that adapts: the steps taken, and skipped, since it last changed.
struct Scaling {
  double scale;
  u64 good_steps, bad_steps;
};
static_assert(sizeof(Scaling) == 24, "as layout.rs has it");
AT(0, Scaling, scale);
AT(8, Scaling, good_steps);
AT(16, Scaling, bad_steps);

// How a loss scale adapts.
struct ScalingRule {
  double growth_factor, backoff_factor;
  double least, most; // where it stops
  u64 growth_interval, backoff_interval;
};
static_assert(sizeof(ScalingRule) == 48, "as layout.rs has it");
AT(0, ScalingRule, growth_factor);
AT(8, ScalingRule, backoff_factor);
AT(16, ScalingRule, least);
AT(24, ScalingRule, most);
AT(32, ScalingRule, growth_interval);
AT(40, ScalingRule, backoff_interval);

// The learning rates of coming steps, `[n] f64` behind it.
struct Timetable {
  u64 next, n;
  u64 missed; // steps for which there was none

  __device__ __forceinline__ bool has_lr() const { return next < n; }
  __device__ __forceinline__ double lr() const { return ((const double *)(this + 1))[next]; }
};
static_assert(sizeof(Timetable) == 24, "as layout.rs has it");
AT(0, Timetable, next);
AT(8, Timetable, n);
AT(16, Timetable, missed);

// The inputs of the step of all parameters: numbers of the host's, or f32s in global memory.
struct Inputs {
  double lr, inv_grad_scale;
  double largest_lr; // the largest that may be read
  const float *lr_at, *grad_scale_at, *found_inf_at; // 0: the host's number is meant
  const Scaling *scaling; // 0: the scale does not adapt
  const Timetable *timetable; // 0: no schedule is followed
};
static_assert(sizeof(Inputs) == 64, "as layout.rs has it");
AT(0, Inputs, lr);
AT(8, Inputs, inv_grad_scale);
AT(16, Inputs, largest_lr);
AT(24, Inputs, lr_at);
AT(32, Inputs, grad_scale_at);
AT(40, Inputs, found_inf_at);
AT(48, Inputs, scaling);
AT(56, Inputs, timetable);

// The sums over the gradient of one parameter.
struct Total {
  double sum_squares;
  u64 n_nonfinite;
};
static_assert(sizeof(Total) == 16, "as layout.rs has it");
AT(0, Total, sum_squares);
AT(8, Total, n_nonfinite);

// The outcome of a step: the sums over all gradients, and whether the step is taken.
struct Verdict {
  double sum_squares, inv_grad_scale;
  double clip_factor; // the smallest one
  u64 n_nonfinite;
  u32 invalid; // a number was read that no step can use
  u32 skipped;
};
static_assert(sizeof(Verdict) == 40, "as layout.rs has it");
AT(0, Verdict, sum_squares);
AT(8, Verdict, inv_grad_scale);
AT(16, Verdict, clip_factor);
AT(24, Verdict, n_nonfinite);
AT(32, Verdict, invalid);
AT(36, Verdict, skipped);

// Elements `number * CHUNK` and on of a tensor.
struct Chunk {
  u32 tensor, number;
};
static_assert(sizeof(Chunk) == 8, "as layout.rs has it");
AT(0, Chunk, tensor);
AT(4, Chunk, number);

// The type of a sparse gradient's values, and that to which they are widened, with the numbers of
// `layout.rs`.
enum Values : u32 { VALUES_F32, VALUES_F16, VALUES_BF16, VALUES_F64, VALUES_F32_IN_F64 };

// A sparse gradient `[n, row_elements]` of a tensor `[height, row_elements]`. Addresses are in
// global memory.
struct Rows {
  u64 numbers; // [n] i32 or i64
  u64 values; // [n, row_elements]
  u64 grad; // [height, row_elements] in the compute type: the tensor's gradient
  u64 entries; // [n] u64, sorted
  u64 spare; // [3, n] u64: the entries between passes of the sort; the sums over rows after a step
  u64 counts; // [tiles + 1, 256] u32
  u64 gathered; // [6] u64: `Gathered`
  u64 lag; // `Lag`; 0: no row lags
  u64 n, row_elements, height;
  u32 tensor;
  Values type;
  u32 is_long; // the numbers are i64
  u32 reserved;
};
static_assert(sizeof(Rows) == 104, "as layout.rs has it");
AT(0, Rows, numbers);
AT(8, Rows, values);
AT(16, Rows, grad);
AT(24, Rows, entries);
AT(32, Rows, spare);
AT(40, Rows, counts);
AT(48, Rows, gathered);
AT(56, Rows, lag);
AT(64, Rows, n);
AT(72, Rows, row_elements);
AT(80, Rows, height);
AT(88, Rows, tensor);
AT(92, Rows, type);
AT(96, Rows, is_long);
AT(100, Rows, reserved);

// The notes on a gathered gradient, in words of 64 bits. The first three describe the list that was
// gathered last; the others the first row outside, until the host asks: 1 more than its place, or
// 0; the row; the height.
enum Gathered : u32 {
  GATHERED_N,
  GATHERED_ROW_ELEMENTS,
  GATHERED_HEIGHT,
  OUTSIDE_PLACE,
  OUTSIDE_ROW,
  OUTSIDE_HEIGHT
};

// The constants of a step in both compute types.
struct Scalars {
  u64 step;
  StepScalars<float> f32;
  StepScalars<double> f64;

  __device__ __forceinline__ const StepScalars<float> &of(float) const { return f32; }
  __device__ __forceinline__ const StepScalars<double> &of(double) const { return f64; }
};
static_assert(sizeof(Scalars) == 8 + 56 + 104, "as layout.rs has it");

// Flags that all tensors of a launch have in common.
enum Flags : u32 { FLAG_AMSGRAD = 1, FLAG_CLEAR_GRADS = 2, FLAG_F32_GRADS = 4, FLAG_NO_GRADS = 8 };
