// Gradients added up, and masters filled: `src/cpu/accumulate.rs` and `src/cpu/masters.rs`.
#pragma once
#include "memory.cuh"
#include "step.cuh"

template <class T, class G>
__device__ __forceinline__ void accumulate(u64 sum, u64 grad, u64 n, u32 is_first) {
  const u64 first = 4 * ((u64)blockIdx.x * THREADS + threadIdx.x),
            stride = 4 * (u64)gridDim.x * THREADS;
  for (u64 at = first; at < n; at += stride) {
    const u32 left = (u32)min(4ull, n - at);
    T sums[4] = {}, wide[4];
    G stored[4];
    load(grad, at, left, stored);
    if (!is_first) load(sum, at, left, sums);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      widen(stored[i], wide[i]);
      sums[i] = is_first ? wide[i] : sums[i] + wide[i];
    }
    store(sum, at, left, sums);
  }
}

// Zeros over `n` elements of so many bytes: 2, 4 or 8.
__device__ __forceinline__ void clear(u64 base, u64 start, u32 n, u32 bytes) {
  for (u32 at = 4 * threadIdx.x; at < n; at += 4 * THREADS) {
    const u32 left = min(4u, n - at);
    const u16 narrow[4] = {};
    const float single[4] = {};
    const double wide[4] = {};
    if (bytes == 2) store(base, start + at, left, narrow);
    else if (bytes == 4) store(base, start + at, left, single);
    else store(base, start + at, left, wide);
  }
}
