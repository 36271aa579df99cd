// The statistics of a step, which mirror `Sums` of `src/cpu/norms.rs`, and the comparison of
// masters with their parameters, which mirrors `src/cpu/masters.rs`.
#pragma once
#include "coded.cuh"
#include "norms.cuh"

// The ways to keep a type.
template <class P> struct Weights : Itself {};
template <> struct Weights<f16> : OneOf<Itself, Master, Kahan> {};
template <> struct Weights<bf16> : OneOf<Itself, Master, Split, Kahan, Stochastic> {};

// Copies the weights of a chunk, in the compute type, to a place where chunks lie side by side.
template <class P> __device__ __forceinline__ void keep_chunk(const Tensor &t, const Chunk &chunk,
                                                              u64 number, u64 before) {
  const u64 start = (u64)chunk.number * CHUNK;
  const u32 n = (u32)min(t.n_elements - start, (u64)CHUNK);
  for (u32 at = 4 * threadIdx.x; at < n; at += 4 * THREADS) {
    const u32 left[1] = {min(4u, n - at)};
    Compute<P> wide[1][4];
    Weights<P>::template open<P>(t, start + at, left, wide);
    store(before, number * CHUNK + at, left, wide);
  }
}

// The sums over a block of 4,096 elements of which a step has changed some.
struct Change {
  double update, param; // of the squares of the changes, and of the new weights
  u32 n_unchanged;      // elements that have a momentum and have not changed
};

// Returns the sums over a block. One warp calls it. `moves`: elements with a momentum should
// change.
template <class P> __device__ __forceinline__ Change tally_change(const Tensor &t,
                                                                  MomentFormat format, bool moves,
                                                                  u64 start, u64 before, u32 n) {
  u32 n_unchanged = 0;
  double updates[4] = {0.0, 0.0, 0.0, 0.0}, params[4] = {0.0, 0.0, 0.0, 0.0};
  for (u32 at = 4 * (threadIdx.x % WARP); at < n; at += NORM_LANES) {
    const u32 left[1] = {min(4u, n - at)};
    Compute<P> was[1][4], is[1][4], exp_avg[1][4];
    load(before, at, left, was);
    Weights<P>::template open<P>(t, start + at, left, is);
    open_exp_avg(t, format, start + at, left, exp_avg);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      const double change = (double)is[0][i] - (double)was[0][i], value = is[0][i];
      if (i < left[0]) {
        updates[i] = updates[i] + change * change;
        params[i] = params[i] + value * value;
        n_unchanged += moves && is[0][i] == was[0][i] && exp_avg[0][i] != Compute<P>(0);
      }
    }
  }
  return {join_lanes(updates), join_lanes(params), join_counts(n_unchanged)};
}

// Finds the first element of an f32 master that does not round to its parameter, whichever way it
// is rounded.
template <class P>
__device__ __forceinline__ void check_master(u64 master, u64 param, u64 n, u64 *first) {
  const u64 stride = 4 * (u64)gridDim.x * THREADS;
  for (u64 at = 4 * ((u64)blockIdx.x * THREADS + threadIdx.x); at < n; at += stride) {
    const u32 left = (u32)min(4ull, n - at);
    float wide[4];
    P stored[4];
    load(master, at, left, wide);
    load(param, at, left, stored);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      P rounded;
      float a, b;
      narrow(wide[i], rounded);
      widen(rounded, a);
      widen(stored[i], b);
      // Neighbours are the two ways to round; zeros may differ in their sign, NaN in anything.
      const int apart = (int)rounded.bits - (int)stored[i].bits;
      const bool same = (apart >= -1 && apart <= 1) || a == b || (a != a && b != b);
      if (i < left && !same) atomicMin(first, at + i);
    }
  }
}
