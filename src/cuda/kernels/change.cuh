// The statistics of a step, which mirror `Sums` of `src/cpu/norms.rs`, and the comparison of
// masters with their parameters, which mirrors `src/cpu/masters.rs`.
#pragma once
#include "coded.cuh"
#include "norms.cuh"
#include "rows.cuh"

// The ways to keep a type.
template <class P> struct Weights : Itself {};
template <> struct Weights<f16> : OneOf<Itself, Master, Kahan> {};
template <> struct Weights<bf16> : OneOf<Itself, Master, Split, Kahan, Stochastic> {};

// The elements of a tensor whose changes are added up together, by a warp.
struct Unit {
  u32 tensor;
  u64 start, n; // n is 0 if they are none, or another unit's
  u64 kept;     // the place of the first among the weights that are kept
};

// Returns the i-th unit: of 4,096 elements of a chunk or, if `rows` is not NULL, of a listed row.
__device__ __forceinline__ Unit unit_of(const Tensor *tensors, const Chunk *chunks,
                                        const Rows *rows, u64 i) {
  if (rows != nullptr) {
    const u64 n = is_counted(*rows, i) ? rows->row_elements : 0,
              start = row_of(entry_at(rows->entries, i)) * rows->row_elements;
    return {rows->tensor, start, n, start};
  }
  const u32 per_chunk = CHUNK / NORM_BLOCK;
  const Chunk chunk = chunks[i / per_chunk];
  const u64 start = (u64)chunk.number * CHUNK + i % per_chunk * NORM_BLOCK,
            end = tensors[chunk.tensor].n_elements;
  return {chunk.tensor, start, start < end ? min((u64)NORM_BLOCK, end - start) : 0, i * NORM_BLOCK};
}

// Calls `visit(i)` for the units that belong to a warp.
template <class Visit> __device__ __forceinline__ void each_unit(u64 n_units, const Visit &visit) {
  const u32 warps = THREADS / WARP;
  for (u64 i = (u64)blockIdx.x * warps + threadIdx.x / WARP; i < n_units;
       i += (u64)gridDim.x * warps)
    visit(i);
}

// Copies the weights of a unit, in the compute type, to their place.
template <class P>
__device__ __forceinline__ void keep_unit(const Tensor *tensors, const Unit &unit, u64 before) {
  for (u64 at = 4 * (threadIdx.x % WARP); at < unit.n; at += NORM_LANES) {
    const u32 left[1] = {(u32)min(4ull, unit.n - at)};
    Compute<P> wide[1][4];
    Weights<P>::template open<P>(tensors[unit.tensor], unit.start + at, left, wide);
    store(before, unit.kept + at, left, wide);
  }
}

// The sums over a unit of which a step has changed some elements.
struct Change {
  double update, param; // of the squares of the changes, and of the new weights
  u32 n_unchanged;      // elements that have a momentum and have not changed
};

// Returns the sums over a unit. One warp calls it. `moves`: elements with a momentum should change.
template <class P> __device__ __forceinline__ Change tally_change(const Tensor &t,
                                                                  MomentFormat format, bool moves,
                                                                  const Unit &unit, u64 before) {
  u32 n_unchanged = 0;
  double updates[4] = {0.0, 0.0, 0.0, 0.0}, params[4] = {0.0, 0.0, 0.0, 0.0};
  for (u64 at = 4 * (threadIdx.x % WARP); at < unit.n; at += NORM_LANES) {
    const u32 left[1] = {(u32)min(4ull, unit.n - at)};
    Compute<P> was[1][4], is[1][4], exp_avg[1][4];
    load(before, unit.kept + at, left, was);
    Weights<P>::template open<P>(t, unit.start + at, left, is);
    open_exp_avg(t, format, unit.start + at, left, exp_avg);
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
