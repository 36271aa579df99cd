// The sum of squares of gradients, in the one order that defines its bits: `src/norm.rs`.
#pragma once
#include "memory.cuh"
#include "layout.cuh"

const u32 NORM_BLOCK = 4096;
const u32 NORM_LANES = 128;

__device__ __forceinline__ bool is_finite(double x) {
  return (__double_as_longlong(x) & 0x7ff0000000000000) != 0x7ff0000000000000;
}

// Joins the lanes of a warp by halves, four to a thread, and returns the sum to the first thread.
__device__ __forceinline__ double join_lanes(double (&lanes)[4]) {
#pragma unroll
  for (u32 threads = 16; threads > 0; threads /= 2) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) lanes[i] = lanes[i] + __shfl_down_sync(EVERYONE, lanes[i], threads);
  }
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

// Returns the sum of a warp's counts to the first thread.
__device__ __forceinline__ u32 join_counts(u32 count) {
#pragma unroll
  for (u32 threads = 16; threads > 0; threads /= 2)
    count += __shfl_down_sync(EVERYONE, count, threads);
  return count;
}

// Sums the squares of one block of 4,096 elements, by one warp: thread t has the lanes 4 t to 4 t
// + 3. Every thread of the warp calls it, and the first gets the sum.
template <class G, class T>
__device__ __forceinline__ double tally_block(u64 grad, u64 start, u32 n, u32 &n_nonfinite) {
  const u32 lane = threadIdx.x % 32;
  double lanes[4] = {0.0, 0.0, 0.0, 0.0};
  n_nonfinite = 0;
  for (u32 at = 4 * lane; at < n; at += NORM_LANES) {
    G stored[4];
    const u32 left = min(4u, n - at);
    load(grad, start + at, left, stored);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      T wide;
      widen(stored[i], wide);
      const double value = wide;
      if (i < left) {
        lanes[i] = lanes[i] + value * value;
        n_nonfinite += !is_finite(value);
      }
    }
  }
  n_nonfinite = join_counts(n_nonfinite);
  return join_lanes(lanes);
}
