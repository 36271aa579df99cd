// The step of one chunk by one block of threads. A warp steps one or two runs of elements at a
// time.
#pragma once
#include "weights.cuh"

// A chunk and the means to step it.
struct Work {
  Tensor tensor;
  const Scalars *scalars;
  Random random;
  u64 start; // the first element
  u32 n;     // the number of elements
  u32 flags;

  __device__ __forceinline__ bool amsgrad() const { return flags & FLAG_AMSGRAD; }

  // Returns whether whole runs can be stepped: every tensor is aligned for vectors, and nothing is
  // done that would take registers: amsgrad and forgetting.
  template <class T> __device__ __forceinline__ bool is_whole(const StepScalars<T> &of_step) const {
    const Tensor &t = tensor;
    return (t.param | t.grad | t.exp_avg | t.exp_avg_sq | t.rest) % 16 == 0 && !amsgrad() &&
           !of_step.forgets;
  }
};

__device__ __forceinline__ Random random_of(const Tensor &tensor, const Scalars *scalars) {
  return random_at(tensor.key, scalars->step, tensor.first_element);
}

// Loads gradients of one type in the compute type, and writes zeros over them if they are to be
// cleared.
template <class G, class T, class N, int R> __device__ __forceinline__ void
take_stored(const Work &work, u64 at, const N (&n)[R], T (&wide)[R][4]) {
  G stored[R][4];
  load(work.tensor.grad, at, n, stored);
  widen(stored, wide);
  if (work.flags & FLAG_CLEAR_GRADS) {
    const G zero[R][4] = {};
    store(work.tensor.grad, at, n, zero);
  }
}

// The source of gradients: the tensor, whose type is the parameter's or f32.
struct Given {
  template <class P, class T, class N, int R> static __device__ __forceinline__ void
  take(const Work &work, u64 at, const N (&n)[R], T (&wide)[R][4]) {
    if (sizeof(P) != sizeof(float) && work.flags & FLAG_F32_GRADS)
      take_stored<float>(work, at, n, wide);
    else take_stored<P>(work, at, n, wide);
  }
};

// The tensor, or none in a step without a gradient.
struct GivenOrNone {
  template <class P, class T, class N, int R> static __device__ __forceinline__ void
  take(const Work &work, u64 at, const N (&n)[R], T (&wide)[R][4]) {
    if (!(work.flags & FLAG_NO_GRADS)) return Given::take<P>(work, at, n, wide);
    each<R>([&](int run, int i) { wide[run][i] = T(0); });
  }
};

// Moments in the compute type.
struct Full {
  static const int RUNS = 1; // of a thread, where some elements are not there
  template <class T, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], T (&exp_avg)[R][4], T (&exp_avg_sq)[R][4]) {
    load(t.exp_avg, at, n, exp_avg);
    load(t.exp_avg_sq, at, n, exp_avg_sq);
  }
  template <class T, class N, int R>
  static __device__ __forceinline__ void close(const Tensor &t, const Random &, u64 at,
                                               const N (&n)[R], const T (&exp_avg)[R][4],
                                               const T (&exp_avg_sq)[R][4]) {
    store(t.exp_avg, at, n, exp_avg);
    store(t.exp_avg_sq, at, n, exp_avg_sq);
  }
  template <class T, class N, int R> static __device__ __forceinline__ void
  open_max(const Tensor &t, u64 at, const N (&n)[R], T (&wide)[R][4]) {
    load(t.max_exp_avg_sq, at, n, wide);
  }
  template <class T, class N, int R> static __device__ __forceinline__ void
  close_max(const Tensor &t, u64 at, const N (&n)[R], const T (&wide)[R][4]) {
    store(t.max_exp_avg_sq, at, n, wide);
  }
};

// Moments in bf16: exp_avg_sq is rounded at random.
struct Half {
  static const int RUNS = 1;
  template <class N, int R> static __device__ __forceinline__ void
  open_one(u64 base, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    bf16 stored[R][4];
    load(base, at, n, stored);
    widen(stored, wide);
  }
  template <class N, int R> static __device__ __forceinline__ void
  close_one(u64 base, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    bf16 stored[R][4];
    narrow(wide, stored);
    store(base, at, n, stored);
  }
  template <class N, int R>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, const N (&n)[R],
                                              float (&exp_avg)[R][4], float (&exp_avg_sq)[R][4]) {
    open_one(t.exp_avg, at, n, exp_avg);
    open_one(t.exp_avg_sq, at, n, exp_avg_sq);
  }
  template <class N, int R>
  static __device__ __forceinline__ void close(const Tensor &t, const Random &random, u64 at,
                                               const N (&n)[R], const float (&exp_avg)[R][4],
                                               const float (&exp_avg_sq)[R][4]) {
    close_one(t.exp_avg, at, n, exp_avg);
    u32 noise[R][4];
    random.bits(NOISE_EXP_AVG_SQ, at, n, noise);
    bf16 stored[R][4];
    narrow_randomly(exp_avg_sq, noise, stored);
    store(t.exp_avg_sq, at, n, stored);
  }
  template <class N, int R> static __device__ __forceinline__ void
  open_max(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    open_one(t.max_exp_avg_sq, at, n, wide);
  }
  template <class N, int R> static __device__ __forceinline__ void
  close_max(const Tensor &t, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    close_one(t.max_exp_avg_sq, at, n, wide);
  }
};

// Steps runs of elements, of which `n` are there.
template <class P, class Keep, class Moments, class Grads = Given, class N, int R>
__device__ __forceinline__ void step_runs(const Work &work, const StepScalars<Compute<P>> &scalars,
                                          u64 at, const N (&n)[R]) {
  typedef Compute<P> T;
  const Tensor &t = work.tensor;
  const bool amsgrad = may_do_more(n[0]) && work.amsgrad();
  T param[R][4], grad[R][4], exp_avg[R][4], exp_avg_sq[R][4], max_exp_avg_sq[R][4] = {};
  Keep::template open<P>(t, at, n, param);
  Grads::template take<P>(work, at, n, grad);
  Moments::open(t, at, n, exp_avg, exp_avg_sq);
  if (amsgrad) Moments::open_max(t, at, n, max_exp_avg_sq);
  if (scalars.prepares)
    each<R>([&](int run, int i) { grad[run][i] = prepared(scalars, grad[run][i], param[run][i]); });
  each<R>([&](int run, int i) {
    const Element<T> before = {param[run][i], exp_avg[run][i], exp_avg_sq[run][i],
                               max_exp_avg_sq[run][i]};
    const Element<T> after = adamw(scalars, amsgrad, before, grad[run][i]);
    param[run][i] = after.param, exp_avg[run][i] = after.exp_avg;
    exp_avg_sq[run][i] = after.exp_avg_sq, max_exp_avg_sq[run][i] = after.max_exp_avg_sq;
  });
  if (may_do_more(n[0]) && scalars.forgets)
    each<R>([&](int run, int i) {
      forget(scalars.eps, exp_avg[run][i], exp_avg_sq[run][i]);
      if (amsgrad) forget(scalars.eps, exp_avg[run][i], max_exp_avg_sq[run][i]);
    });
  Keep::template close<P>(t, work.random, at, n, param);
  Moments::close(t, work.random, at, n, exp_avg, exp_avg_sq);
  if (amsgrad) Moments::close_max(t, at, n, max_exp_avg_sq);
}

template <class P, class Keep, class Moments> struct Stepper {
  typedef Compute<P> T;
  // The runs of a thread: two doubles would take more registers than there are.
  static const int R = sizeof(T) == 8 ? 1 : 2;

  static __device__ __forceinline__ void step(const Work &work) {
    const StepScalars<T> scalars = work.scalars->of(T());
    const u32 whole = work.is_whole(scalars) ? work.n / (R * RUN) * (R * RUN) : 0;
    step_rows<R, Whole>(work, scalars, 0, whole);
    step_rows<Moments::RUNS, u32>(work, scalars, whole, work.n);
  }

  // Steps the elements from `begin` to `end` by rows of R runs, a warp each.
  template <int R, class N> static __device__ __forceinline__ void
  step_rows(const Work &work, const StepScalars<T> &scalars, u32 begin, u32 end) {
    const u32 first = threadIdx.x / WARP * R * RUN, own = threadIdx.x % WARP * 4,
              stride = THREADS / WARP * R * RUN;
    u64 at = work.start + begin + first + own;
    for (u32 row = begin + first; row < end; row += stride, at += stride) {
      N n[R];
#pragma unroll
      for (int run = 0; run < R; run++) set_length(n[run], end - min(end, row + own + RUN * run));
      step_runs<P, Keep, Moments>(work, scalars, at, n);
    }
  }
};
