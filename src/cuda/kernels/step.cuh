// The step of one chunk by one block of threads.
#pragma once
#include "codes.cuh"
#include "weights.cuh"

const u32 THREADS = 256;
const u32 WARP = 32;
const u32 EVERYONE = 0xffffffff;

// A chunk and the means to step it.
struct Work {
  Tensor tensor;
  const Scalars *scalars;
  Random random;
  u64 start; // the first element
  u32 n;     // the number of elements
  u32 flags;

  __device__ __forceinline__ bool amsgrad() const { return flags & FLAG_AMSGRAD; }
};

__device__ __forceinline__ Random random_of(const Tensor &tensor, const Scalars *scalars) {
  return {{tensor.key[0], tensor.key[1]}, scalars->step, tensor.first_element};
}

// Loads four gradients of one type in the compute type, and writes zeros over them if they are to
// be cleared.
template <class G, class T>
__device__ __forceinline__ void take_stored(const Work &work, u64 at, u32 n, T (&wide)[4]) {
  G stored[4];
  load(work.tensor.grad, at, n, stored);
#pragma unroll
  for (int i = 0; i < 4; i++) widen(stored[i], wide[i]);
  if (work.flags & FLAG_CLEAR_GRADS) {
    const G zero[4] = {};
    store(work.tensor.grad, at, n, zero);
  }
}

// Loads gradients, which have the parameter's type or f32.
template <class P, class T>
__device__ __forceinline__ void take_grad(const Work &work, u64 at, u32 n, T (&wide)[4]) {
  if (work.flags & FLAG_F32_GRADS) take_stored<float>(work, at, n, wide);
  else take_stored<P>(work, at, n, wide);
}
template <> __device__ __forceinline__ void take_grad<float>(const Work &work, u64 at, u32 n,
                                                             float (&wide)[4]) {
  take_stored<float>(work, at, n, wide);
}

// The source of gradients: the tensor, or none in a step without a gradient.
struct Given {
  template <class P, class T>
  static __device__ __forceinline__ void take(const Work &work, u64 at, u32 n, T (&wide)[4]) {
    take_grad<P>(work, at, n, wide);
  }
};
struct GivenOrNone {
  template <class P, class T>
  static __device__ __forceinline__ void take(const Work &work, u64 at, u32 n, T (&wide)[4]) {
    if (!(work.flags & FLAG_NO_GRADS)) return take_grad<P>(work, at, n, wide);
#pragma unroll
    for (int i = 0; i < 4; i++) wide[i] = T(0);
  }
};

// Updates four elements.
template <class T> __device__ __forceinline__ void update(const Work &work, T (&param)[4],
                                                          T (&grad)[4], T (&exp_avg)[4],
                                                          T (&exp_avg_sq)[4],
                                                          T (&max_exp_avg_sq)[4]) {
  const StepScalars<T> scalars = work.scalars->of(T());
  if (scalars.prepares) {
#pragma unroll
    for (int i = 0; i < 4; i++) grad[i] = prepared(scalars, grad[i], param[i]);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const Element<T> before = {param[i], exp_avg[i], exp_avg_sq[i], max_exp_avg_sq[i]};
    const Element<T> after = adamw(scalars, work.amsgrad(), before, grad[i]);
    param[i] = after.param, exp_avg[i] = after.exp_avg, exp_avg_sq[i] = after.exp_avg_sq;
    max_exp_avg_sq[i] = after.max_exp_avg_sq;
  }
}

// Moments in the compute type.
struct Full {
  template <class T>
  static __device__ __forceinline__ void open(u64 base, u64 at, u32 n, T (&wide)[4]) {
    load(base, at, n, wide);
  }
  template <class T>
  static __device__ __forceinline__ void close(u64 base, u64 at, u32 n, const T (&wide)[4]) {
    store(base, at, n, wide);
  }
  template <class T> static __device__ __forceinline__ void
  close_randomly(u64 base, u64 at, u32 n, const T (&wide)[4], const Random &) {
    store(base, at, n, wide);
  }
};

// Moments in bf16: exp_avg_sq is rounded at random.
struct Half {
  static __device__ __forceinline__ void open(u64 base, u64 at, u32 n, float (&wide)[4]) {
    bf16 stored[4];
    load(base, at, n, stored);
#pragma unroll
    for (int i = 0; i < 4; i++) widen(stored[i], wide[i]);
  }
  static __device__ __forceinline__ void close(u64 base, u64 at, u32 n, const float (&wide)[4]) {
    bf16 stored[4];
#pragma unroll
    for (int i = 0; i < 4; i++) narrow(wide[i], stored[i]);
    store(base, at, n, stored);
  }
  static __device__ __forceinline__ void
  close_randomly(u64 base, u64 at, u32 n, const float (&wide)[4], const Random &random) {
    bf16 stored[4];
    u32 noise[4];
    random.bits(NOISE_EXP_AVG_SQ, at, noise);
#pragma unroll
    for (int i = 0; i < 4; i++) stored[i] = narrow_randomly(wide[i], noise[i]);
    store(base, at, n, stored);
  }
};

// Steps four elements of a chunk whose moments are not codes; `n` of them are there.
template <class P, class Keep, class Moments, class Grads = Given>
__device__ __forceinline__ void step_four(const Work &work, u64 at, u32 n) {
  const Tensor &t = work.tensor;
  Compute<P> param[4], grad[4], exp_avg[4], exp_avg_sq[4], max_exp_avg_sq[4] = {};
  Keep::template open<P>(t, at, n, param);
  Grads::template take<P>(work, at, n, grad);
  Moments::open(t.exp_avg, at, n, exp_avg);
  Moments::open(t.exp_avg_sq, at, n, exp_avg_sq);
  if (work.amsgrad()) Moments::open(t.max_exp_avg_sq, at, n, max_exp_avg_sq);
  update(work, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
  Keep::template close<P>(t, at, n, param, work.random);
  Moments::close(t.exp_avg, at, n, exp_avg);
  Moments::close_randomly(t.exp_avg_sq, at, n, exp_avg_sq, work.random);
  if (work.amsgrad()) Moments::close(t.max_exp_avg_sq, at, n, max_exp_avg_sq);
}

template <class P, class Keep, class Moments> struct Stepper {
  static __device__ __forceinline__ void step(const Work &work) {
    for (u32 at = 4 * threadIdx.x; at < work.n; at += 4 * THREADS)
      step_four<P, Keep, Moments>(work, work.start + at, min(4u, work.n - at));
  }
};
