// The decision about a step: clip factors and the verdict, from the totals of all gradients. It
// mirrors `src/clip.rs` and `src/optimizer/step/{measure,decide}.rs`.
#pragma once
#include "step.cuh"

// Returns whether f32 can multiply by a scale, and by its inverse, as `config::loss_scale` does. A
// NaN is no scale.
__device__ __forceinline__ bool is_loss_scale(float scale) {
  return scale >= 0x1p-126f && scale <= 0x1p126f;
}

// Returns the inverse of the scale, or NaN if the device has read a number that is no scale.
__device__ __forceinline__ double inv_grad_scale(const Inputs &inputs) {
  if (inputs.scaling != nullptr) return 1.0 / inputs.scaling->scale;
  if (inputs.grad_scale_at == nullptr) return inputs.inv_grad_scale;
  const float scale = *inputs.grad_scale_at;
  return is_loss_scale(scale) ? 1.0 / (double)scale : __longlong_as_double(0x7ff8000000000000);
}

// Returns the learning rate, which a timetable has if the step follows one.
__device__ __forceinline__ double lr_of(const Inputs &inputs) {
  if (inputs.lr_at != nullptr) return *inputs.lr_at;
  return inputs.timetable != nullptr ? inputs.timetable->lr() : inputs.lr;
}

// Returns whether every parameter can be stepped with the learning rate that was read, as
// `check_lr_on_device` does.
__device__ __forceinline__ bool is_lr_valid(const Inputs &inputs) {
  if (inputs.timetable != nullptr && !inputs.timetable->has_lr()) return false;
  if (inputs.timetable == nullptr && inputs.lr_at == nullptr) return true;
  const double lr = lr_of(inputs);
  return lr >= 0.0 && lr <= inputs.largest_lr;
}

__device__ __forceinline__ bool are_valid(const Inputs &inputs) {
  return is_lr_valid(inputs) &&
         (inputs.grad_scale_at == nullptr || is_loss_scale(*inputs.grad_scale_at));
}

__device__ __forceinline__ bool is_raised(const Inputs &inputs) {
  return inputs.found_inf_at != nullptr && *inputs.found_inf_at != 0.0f;
}

// Returns a loss scale after a step that was taken, or skipped, as `Scaler::update` does.
__device__ __forceinline__ Scaling adapted(const Scaling &scaling, const ScalingRule &rule,
                                           bool skipped) {
  const u64 before = skipped ? scaling.bad_steps : scaling.good_steps;
  const u64 steps = before == ~0ull ? before : before + 1;
  const u64 good = skipped ? 0 : steps, bad = skipped ? steps : 0;
  if (good >= rule.growth_interval) {
    const double grown = scaling.scale * rule.growth_factor;
    return {grown < rule.most ? grown : rule.most, 0, 0};
  }
  if (bad >= rule.backoff_interval) {
    const double least = rule.least < scaling.scale ? rule.least : scaling.scale;
    const double shrunk = scaling.scale * rule.backoff_factor;
    return {shrunk > least ? shrunk : least, 0, 0};
  }
  return {scaling.scale, good, bad};
}

// Returns the factor that brings a norm down to the largest allowed, or NaN for a NaN.
__device__ __forceinline__ double clip_factor(double largest, double norm) {
  return norm > largest ? largest / norm : norm != norm ? norm : 1.0;
}

// Returns the smaller of the two, or NaN if either is NaN.
__device__ __forceinline__ double smaller_or_nan(double smallest, double factor) {
  return factor < smallest || factor != factor ? factor : smallest;
}

__device__ __forceinline__ Verdict verdict_without_norms(const Inputs &inputs) {
  const bool invalid = !are_valid(inputs);
  return {0.0, inv_grad_scale(inputs), 1.0, 0, invalid, invalid || is_raised(inputs)};
}

// Returns the sums over the gradient that a parameter is stepped with, which may be a mean.
__device__ __forceinline__ Total of_mean(const Hyper &hyper, const Total &total) {
  return {total.sum_squares * (hyper.mean * hyper.mean), total.n_nonfinite};
}

// Returns sums that come from outside, as `Total::from_outside` does.
__device__ __forceinline__ Total from_outside(double sum_squares, double n_nonfinite) {
  const double most = 9007199254740992.0; // 2^53
  const u64 n = n_nonfinite >= 0.0 ? (u64)(n_nonfinite < most ? n_nonfinite : most) : 1;
  return {sum_squares, n == 0 && !(sum_squares >= 0.0) ? 1 : n};
}

// The sums over the gradients of a step: `totals [n]`, or `outside [n, 2]` if it is not NULL.
struct GradSums {
  const Total *totals;
  const double *outside;

  __device__ __forceinline__ Total of(const Hyper &hyper, u32 i) const {
    return outside == nullptr ? of_mean(hyper, totals[i])
                              : from_outside(outside[2 * (u64)i], outside[2 * (u64)i + 1]);
  }
};

// Returns the number of elements of a gradient that are not finite; 1 if the compute type does not
// hold its norm.
__device__ __forceinline__ u64 nonfinite_of(const Hyper &hyper, const Total &total,
                                            double inverse) {
  const double largest = hyper.is_f64 ? 1.7976931348623157e308 : 3.4028234663852886e38;
  return total.n_nonfinite == 0 && root(total.sum_squares) * inverse > largest ? 1
                                                                               : total.n_nonfinite;
}

// Decides about the step, by one block. Sums run over the parameters in their order, each by one
// thread: a sum for each scope, and one of all.
__device__ __forceinline__ void decide_all(const Hyper *hypers, const GradSums &grads, u32 n,
                                           u32 n_scopes, u32 skips, const Inputs &inputs,
                                           double *sums, double *factors, Verdict *verdict) {
  __shared__ double squares[THREADS], smallest[THREADS];
  __shared__ u32 scopes[THREADS];
  __shared__ u64 bad[THREADS];
  const u32 thread = threadIdx.x;
  const u32 ALL = n_scopes, NONE = n_scopes + 1;
  const double inverse = inv_grad_scale(inputs);
  double all_squares = 0.0;
  u64 all_bad = 0;
  for (u32 first = 0; first <= ALL; first += THREADS) {
    const u32 scope = first + thread;
    double sum = 0.0;
    u64 n_bad = 0;
    for (u32 base = 0; base < n; base += THREADS) {
      const u32 i = base + thread;
      const bool there = i < n && hypers[i].part != PART_NONE;
      const Total total = there ? grads.of(hypers[i], i) : Total{0.0, 0};
      squares[thread] = total.sum_squares;
      scopes[thread] = there && hypers[i].clip == CLIP_GLOBAL_NORM ? hypers[i].scope : NONE;
      bad[thread] = there ? nonfinite_of(hypers[i], total, inverse) : 0;
      __syncthreads();
      for (u32 j = 0; j < min(n - base, THREADS); j++) {
        if (scope == ALL || scopes[j] == scope) sum = sum + squares[j];
        n_bad += bad[j];
      }
      __syncthreads();
    }
    if (scope < ALL) sums[scope] = sum;
    if (scope == ALL) all_squares = sum, all_bad = n_bad;
  }
  __syncthreads();

  double least = 1.0;
  for (u32 i = thread; i < n; i += THREADS) {
    const Hyper hyper = hypers[i];
    if (hyper.part != PART_STEPPED) continue;
    double factor = 1.0;
    if (hyper.clip != CLIP_NONE) {
      const double sum =
          hyper.clip == CLIP_NORM ? grads.of(hyper, i).sum_squares : sums[hyper.scope];
      factor = clip_factor(hyper.largest_norm, root(sum) * inverse);
    }
    factors[i] = factor;
    least = smaller_or_nan(least, factor);
  }
  smallest[thread] = least;
  __syncthreads();
  if (thread == ALL % THREADS) {
    for (u32 i = 0; i < THREADS; i++) least = smaller_or_nan(least, smallest[i]);
    const bool invalid = !are_valid(inputs);
    *verdict = {all_squares, inverse, least,
                all_bad,     invalid, invalid || is_raised(inputs) || (skips && all_bad > 0)};
  }
}

// Returns the clock after one more step, as steps.rs has it.
__device__ __forceinline__ Clock advanced(const Clock &clock, const Hyper &hyper) {
  const u64 step = clock.step == ~0ull ? clock.step : clock.step + 1;
  if (hyper.bias_correction == CORRECTION_BY_CURRENT)
    return {step, power(hyper.beta1, step), power(hyper.beta2, step)};
  return {step, clock.beta1_power * hyper.beta1, clock.beta2_power * hyper.beta2};
}

__device__ __forceinline__ Step step_of(const Hyper &hyper, const Clock &clock,
                                        const Inputs &inputs, double factor) {
  Step step;
  step.lr = lr_of(inputs) * hyper.group_lr_scale * hyper.lr_scale;
  step.beta1 = hyper.beta1, step.beta2 = hyper.beta2, step.eps = hyper.eps,
  step.weight_decay = hyper.weight_decay;
  step.grad_scale = factor * (inv_grad_scale(inputs) * hyper.mean);
  step.min = hyper.min, step.max = hyper.max, step.coefficient = hyper.coefficient;
  const bool corrects = hyper.bias_correction != CORRECTION_NONE;
  step.number = clock.step, step.beta1_power = corrects ? clock.beta1_power : 0.0,
  step.beta2_power = corrects ? clock.beta2_power : 0.0, step.formula = hyper.formula;
  step.regularizer = hyper.regularizer, step.limited = hyper.limited,
  step.maximize = hyper.maximize;
  step.independent_weight_decay = hyper.independent_weight_decay;
  return step;
}
