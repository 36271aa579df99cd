// Four elements of a parameter in the compute type, out of the form in which they are kept and
// back. It mirrors `src/cpu/weights.rs`. Elements that are not there read as 0 and are not written.
#pragma once
#include "memory.cuh"
#include "philox.cuh"
#include "layout.cuh"

// The parameter itself; a 16-bit one is rounded to nearest.
struct Itself {
  static const Kept KEPT = KEPT_ITSELF;
  template <class P> static __device__ __forceinline__ void open(const Tensor &t, u64 at, u32 n,
                                                                 Compute<P> (&wide)[4]) {
    P stored[4];
    load(t.param, at, n, stored);
#pragma unroll
    for (int i = 0; i < 4; i++) widen(stored[i], wide[i]);
  }
  template <class P> static __device__ __forceinline__ void
  close(const Tensor &t, u64 at, u32 n, const Compute<P> (&wide)[4], const Random &) {
    P stored[4];
#pragma unroll
    for (int i = 0; i < 4; i++) narrow(wide[i], stored[i]);
    store(t.param, at, n, stored);
  }
};

// An f32 master beside a 16-bit parameter.
struct Master {
  static const Kept KEPT = KEPT_MASTER;
  template <class P>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, u32 n, float (&wide)[4]) {
    load(t.rest, at, n, wide);
  }
  template <class P> static __device__ __forceinline__ void
  close(const Tensor &t, u64 at, u32 n, const float (&wide)[4], const Random &random) {
    store(t.rest, at, n, wide);
    Itself::close<P>(t, at, n, wide, random);
  }
};

// A bf16 parameter and a remainder, which together are the master.
struct Split {
  static const Kept KEPT = KEPT_SPLIT;
  template <class P>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, u32 n, float (&wide)[4]) {
    bf16 upper[4];
    i16 remainder[4];
    load(t.param, at, n, upper);
    load(t.rest, at, n, remainder);
#pragma unroll
    for (int i = 0; i < 4; i++) wide[i] = join(upper[i], remainder[i]);
  }
  template <class P> static __device__ __forceinline__ void
  close(const Tensor &t, u64 at, u32 n, const float (&wide)[4], const Random &) {
    bf16 upper[4];
    i16 remainder[4];
#pragma unroll
    for (int i = 0; i < 4; i++) split(wide[i], upper[i], remainder[i]);
    store(t.param, at, n, upper);
    store(t.rest, at, n, remainder);
  }
};

// A 16-bit parameter and its rounding error.
struct Kahan {
  static const Kept KEPT = KEPT_KAHAN;
  template <class P>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, u32 n, float (&wide)[4]) {
    P stored[4], rest[4];
    load(t.param, at, n, stored);
    load(t.rest, at, n, rest);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float left_over;
      widen(stored[i], wide[i]);
      widen(rest[i], left_over);
      wide[i] = wide[i] + left_over;
    }
  }
  template <class P> static __device__ __forceinline__ void
  close(const Tensor &t, u64 at, u32 n, const float (&wide)[4], const Random &) {
    P stored[4], rest[4];
#pragma unroll
    for (int i = 0; i < 4; i++) compensated(wide[i], stored[i], rest[i]);
    store(t.param, at, n, stored);
    store(t.rest, at, n, rest);
  }
};

// A bf16 parameter that is rounded at random.
struct Stochastic {
  static const Kept KEPT = KEPT_STOCHASTIC;
  template <class P>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, u32 n, float (&wide)[4]) {
    Itself::open<P>(t, at, n, wide);
  }
  template <class P> static __device__ __forceinline__ void
  close(const Tensor &t, u64 at, u32 n, const float (&wide)[4], const Random &random) {
    bf16 stored[4];
    u32 noise[4];
    random.bits(NOISE_PARAM, at, noise);
#pragma unroll
    for (int i = 0; i < 4; i++) stored[i] = narrow_randomly(wide[i], noise[i]);
    store(t.param, at, n, stored);
  }
};

// One of several forms, as the tensor says: for kernels that do so much for each element that a
// branch costs nothing.
template <class Keep, class... Others> struct OneOf {
  template <class P>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, u32 n, float (&wide)[4]) {
    if (t.kept == Keep::KEPT) Keep::template open<P>(t, at, n, wide);
    else OneOf<Others...>::template open<P>(t, at, n, wide);
  }
  template <class P> static __device__ __forceinline__ void
  close(const Tensor &t, u64 at, u32 n, const float (&wide)[4], const Random &random) {
    if (t.kept == Keep::KEPT) Keep::template close<P>(t, at, n, wide, random);
    else OneOf<Others...>::template close<P>(t, at, n, wide, random);
  }
};
template <class Keep> struct OneOf<Keep> : Keep {};
