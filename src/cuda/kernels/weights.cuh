// Runs of elements of a parameter in the compute type, out of the form in which they are kept and
// back. It mirrors `src/cpu/weights.rs`. Elements that are not there read as 0 and are not written.
#pragma once
#include "memory.cuh"
#include "noise.cuh"
#include "layout.cuh"

// The parameter itself; a 16-bit one is rounded to nearest.
struct Itself {
  static const Kept KEPT = KEPT_ITSELF;
  template <class P, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], Compute<P> (&wide)[R][4]) {
    P stored[R][4];
    load(t.param, at, n, stored);
    widen(stored, wide);
  }
  template <class P, class N, int R> static __device__ __forceinline__ void
  close(const Tensor &t, const Random &, u64 at, const N (&n)[R], const Compute<P> (&wide)[R][4]) {
    P stored[R][4];
    narrow(wide, stored);
    store(t.param, at, n, stored);
  }
};

// An f32 master beside a 16-bit parameter.
struct Master {
  static const Kept KEPT = KEPT_MASTER;
  template <class P, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    load(t.rest, at, n, wide);
  }
  template <class P, class N, int R> static __device__ __forceinline__ void
  close(const Tensor &t, const Random &random, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    store(t.rest, at, n, wide);
    Itself::close<P>(t, random, at, n, wide);
  }
};

// A bf16 parameter and a remainder, which together are the master.
struct Split {
  static const Kept KEPT = KEPT_SPLIT;
  template <class P, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    bf16 upper[R][4];
    i16 remainder[R][4];
    load(t.param, at, n, upper);
    load(t.rest, at, n, remainder);
    each<R>([&](int run, int i) { wide[run][i] = join(upper[run][i], remainder[run][i]); });
  }
  template <class P, class N, int R> static __device__ __forceinline__ void
  close(const Tensor &t, const Random &, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    bf16 upper[R][4];
    i16 remainder[R][4];
    each<R>([&](int run, int i) { split(wide[run][i], upper[run][i], remainder[run][i]); });
    store(t.param, at, n, upper);
    store(t.rest, at, n, remainder);
  }
};

// A 16-bit parameter and its rounding error.
struct Kahan {
  static const Kept KEPT = KEPT_KAHAN;
  template <class P, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    P stored[R][4], rest[R][4];
    float left_over[R][4];
    load(t.param, at, n, stored);
    load(t.rest, at, n, rest);
    widen(stored, wide);
    widen(rest, left_over);
    each<R>([&](int run, int i) { wide[run][i] = wide[run][i] + left_over[run][i]; });
  }
  template <class P, class N, int R> static __device__ __forceinline__ void
  close(const Tensor &t, const Random &, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    P stored[R][4], rest[R][4];
    each<R>([&](int run, int i) { compensated(wide[run][i], stored[run][i], rest[run][i]); });
    store(t.param, at, n, stored);
    store(t.rest, at, n, rest);
  }
};

// A bf16 parameter that is rounded at random.
struct Stochastic {
  static const Kept KEPT = KEPT_STOCHASTIC;
  template <class P, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    Itself::open<P>(t, at, n, wide);
  }
  template <class P, class N, int R> static __device__ __forceinline__ void
  close(const Tensor &t, const Random &random, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    bf16 stored[R][4];
    u32 noise[R][4];
    random.bits(NOISE_PARAM, at, n, noise);
    narrow_randomly(wide, noise, stored);
    store(t.param, at, n, stored);
  }
};

// One of several forms, as the tensor says: for kernels that do so much for each element that a
// branch costs nothing.
template <class Keep, class... Others> struct OneOf {
  template <class P, class N, int R> static __device__ __forceinline__ void
  open(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    if (t.kept == Keep::KEPT) Keep::template open<P>(t, at, n, wide);
    else OneOf<Others...>::template open<P>(t, at, n, wide);
  }
  template <class P, class N, int R> static __device__ __forceinline__ void
  close(const Tensor &t, const Random &random, u64 at, const N (&n)[R], const float (&wide)[R][4]) {
    if (t.kept == Keep::KEPT) Keep::template close<P>(t, random, at, n, wide);
    else OneOf<Others...>::template close<P>(t, random, at, n, wide);
  }
};
template <class Keep> struct OneOf<Keep> : Keep {};
