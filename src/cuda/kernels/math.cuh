// The AdamW update of one element: `src/math.rs` line for line, where its sources and its reasons
// stand. Compiled with contraction off, so that every operation rounds once, to nearest even.
#pragma once

// The values that one element keeps from step to step.
template <class T> struct Element {
  T param, exp_avg, exp_avg_sq;
  T max_exp_avg_sq; // only read and written with amsgrad
};

// The coefficient of a penalty whose gradient is added.
enum Regularizer : unsigned { REGULARIZER_NONE, REGULARIZER_L1, REGULARIZER_L2 };

// The constants of one step.
template <class T> struct StepScalars {
  T grad_scale, one_minus_beta1, one_minus_beta2, inv_sqrt_bias_correction2, eps, lr_weight_decay,
      step_size;
  unsigned forgets; // moments that are too small become 0 after this step
  // The preparation of a gradient before the update, if `prepares`.
  T scale, min, max, coefficient;
  Regularizer regularizer;
  unsigned prepares;
};

__device__ __forceinline__ float root(float x) { return __fsqrt_rn(x); }
__device__ __forceinline__ double root(double x) { return __dsqrt_rn(x); }

template <class T> __device__ __forceinline__ T prepared(const StepScalars<T> &s, T grad, T param) {
  grad = grad * s.scale;
  grad = grad < s.min ? s.min : grad;
  grad = grad > s.max ? s.max : grad;
  switch (s.regularizer) {
  case REGULARIZER_NONE: return grad;
  case REGULARIZER_L1:
    return param > T(0) ? grad + s.coefficient : param < T(0) ? grad - s.coefficient : grad;
  case REGULARIZER_L2: return grad + s.coefficient * param;
  }
  return grad;
}

// Returns the larger of the two, or NaN if either is NaN.
template <class T> __device__ __forceinline__ T larger_or_nan(T larger, T max) {
  return larger > max || larger != larger ? larger : max;
}

// Returns an element after one step.
template <class T> __device__ __forceinline__ Element<T> adamw(const StepScalars<T> &s,
                                                               bool amsgrad, Element<T> e, T grad) {
  grad = grad * s.grad_scale;
  const T exp_avg = e.exp_avg + s.one_minus_beta1 * (grad - e.exp_avg);
  const T exp_avg_sq = e.exp_avg_sq + s.one_minus_beta2 * (grad * grad - e.exp_avg_sq);
  const T max_exp_avg_sq = amsgrad ? larger_or_nan(exp_avg_sq, e.max_exp_avg_sq) : e.max_exp_avg_sq;
  const T second_moment = amsgrad ? max_exp_avg_sq : exp_avg_sq;
  const T denom = root(second_moment) * s.inv_sqrt_bias_correction2 + s.eps;
  const T param = e.param - (s.lr_weight_decay * e.param + s.step_size * (exp_avg / denom));
  return {param, exp_avg, exp_avg_sq, max_exp_avg_sq};
}

// The steps of a parameter from one at which it forgets to the next.
const unsigned FORGETS_EVERY = 64;

__device__ __forceinline__ float smallest_normal(float) { return 0x1p-126f; }
__device__ __forceinline__ double smallest_normal(double) { return 0x1p-1022; }

// Has exp_avg and a second moment forget what is too small.
template <class T> __device__ __forceinline__ void forget(T eps, T &exp_avg, T &second) {
  if ((exp_avg < T(0) ? -exp_avg : exp_avg) < smallest_normal(T())) exp_avg = T(0);
  if (second < smallest_normal(T()) && exp_avg == T(0) && eps > T(0)) second = T(0);
}

// Returns base^exponent by squaring, from the lowest bit of the exponent up.
__device__ __forceinline__ double power(double base, unsigned long long exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

// In what an update differs from the usual one: flags of `Step::formula`.
enum Formula : unsigned { FORMULA_EPS_BEFORE_CORRECTION = 1, FORMULA_DECAYS_NEW_VALUE = 2 };

// The hyper-parameters of a step, before they become the constants of the loop.
struct Step {
  double lr, beta1, beta2, eps, weight_decay;
  double grad_scale; // the clip factor, by which gradients are multiplied
  double min, max;   // the limits to which they are clamped after that, if `limited`
  double coefficient;
  unsigned long long number; // the number of the step; the first is 1
  double beta1_power, beta2_power;
  Regularizer regularizer;
  unsigned limited, maximize;
  unsigned independent_weight_decay; // decay is not multiplied by the learning rate
  unsigned formula;                  // flags of `Formula`
};

// Each constant is computed in f64, and rounded once.
__device__ __forceinline__ StepScalars<double> scalars_of(const Step &step) {
  const bool needed = step.limited || step.regularizer != REGULARIZER_NONE;
  const double infinity = __longlong_as_double(0x7ff0000000000000);
  const double min = step.limited ? step.min : -infinity, max = step.limited ? step.max : infinity;
  StepScalars<double> s;
  s.scale = step.maximize ? -step.grad_scale : step.grad_scale;
  s.min = step.maximize ? -max : min;
  s.max = step.maximize ? -min : max;
  s.grad_scale = needed ? 1.0 : s.scale;
  s.one_minus_beta1 = 1.0 - step.beta1;
  s.one_minus_beta2 = 1.0 - step.beta2;
  s.inv_sqrt_bias_correction2 = 1.0 / root(1.0 - step.beta2_power);
  s.eps = step.formula & FORMULA_EPS_BEFORE_CORRECTION ? step.eps * s.inv_sqrt_bias_correction2
                                                       : step.eps;
  s.lr_weight_decay =
      step.independent_weight_decay ? step.weight_decay : step.lr * step.weight_decay;
  s.step_size = step.lr / (1.0 - step.beta1_power);
  if (step.formula & FORMULA_DECAYS_NEW_VALUE) s.step_size *= 1.0 - s.lr_weight_decay;
  s.forgets = step.number % FORGETS_EVERY == 0;
  s.coefficient = step.coefficient;
  s.regularizer = step.regularizer;
  s.prepares = needed;
  return s;
}

__device__ __forceinline__ StepScalars<float> rounded(const StepScalars<double> &s) {
  return {(float)s.grad_scale,
          (float)s.one_minus_beta1,
          (float)s.one_minus_beta2,
          (float)s.inv_sqrt_bias_correction2,
          (float)s.eps,
          (float)s.lr_weight_decay,
          (float)s.step_size,
          s.forgets,
          (float)s.scale,
          (float)s.min,
          (float)s.max,
          (float)s.coefficient,
          s.regularizer,
          s.prepares};
}
