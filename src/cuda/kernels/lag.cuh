// The lag of the rows of a tensor behind its steps, and the steps that bring them up to date. It
// mirrors `src/tensor/lag.rs`.
#pragma once
#include "step.cuh"

// The number of steps that the log of a tensor keeps. No row lags further behind. `lag.rs` has the
// same number.
const u32 LOGGED = 1024;

// The lag of a tensor `[height, row_elements]`. Its place in global memory holds the row whose turn
// to catch up is next, the number of steps of the tensor, the number of them that each row has
// taken `[height]`, and the log
// `[LOGGED]` of their scalars. `RowLag` of `layout.rs` has the same layout.
struct Lag {
  u64 at; // 0: no row lags
  u64 height, row_elements;

  __device__ __forceinline__ u64 steps_at() const { return at + 8; }
  __device__ __forceinline__ u64 taken_at(u64 row) const { return at + 16 + 8 * row; }
  __device__ __forceinline__ Scalars *logged(u64 step) const {
    return (Scalars *)__cvta_global_to_generic(taken_at(height)) + step % LOGGED;
  }

  // The rows whose turn it is: every row has its turn within `LOGGED` turns.
  __device__ __forceinline__ u64 turn() const { return load_u64(at); }
  __device__ __forceinline__ u64 turn_end() const {
    return min(turn() + (height + LOGGED - 1) / LOGGED, height);
  }
  __device__ __forceinline__ u64 steps() const { return load_u64(steps_at()); }

  // Logs a step that the rows of its turn and those that are listed have taken.
  __device__ __forceinline__ void count_step(const Scalars &scalars) const {
    const u64 end = turn_end(), step = steps();
    *logged(step) = scalars;
    store_u64(steps_at(), step + 1);
    store_u64(at, end == height ? 0 : end);
  }
};
static_assert(sizeof(Lag) == 24, "as layout.rs has it");
AT(0, Lag, at);
AT(8, Lag, height);
AT(16, Lag, row_elements);

// Returns the number of the first thread to all threads of a warp, none of which goes on before.
__device__ __forceinline__ u64 of_first_lane(u64 number) {
  return __shfl_sync(EVERYONE, number, 0);
}

// Returns the number of steps that a row has taken, to a warp that is about to change it.
__device__ __forceinline__ u64 taken(const Lag &lag, u64 row) {
  return of_first_lane(threadIdx.x % WARP == 0 ? load_u64(lag.taken_at(row)) : 0);
}
__device__ __forceinline__ void set_taken(const Lag &lag, u64 row, u64 steps) {
  if (threadIdx.x % WARP == 0) store_u64(lag.taken_at(row), steps);
}

// Takes the steps from `taken` on with a row: those that are logged, up to `steps`, without a
// gradient, and then the one of `now`, if there is one, with its own. By a warp.
template <class P, class Keep, class Moments>
__device__ __forceinline__ void step_row(const Tensor &tensor, const Lag &lag, u64 row, u64 taken,
                                         u64 steps, const Scalars *now, u32 flags) {
  const u64 end = now == nullptr ? steps : steps + 1;
  for (u64 column = 4 * (threadIdx.x % WARP); column < lag.row_elements; column += 4 * WARP) {
    for (u64 step = taken; step < end; step++) {
      const bool logged = now == nullptr || step < steps;
      const Scalars *scalars = logged ? lag.logged(step) : now;
      const Work work = {tensor, scalars, random_of(tensor, scalars),
                         0,      0,       logged ? flags | FLAG_NO_GRADS : flags};
      const u32 n[1] = {(u32)min(4ull, lag.row_elements - column)};
      step_runs<P, Keep, Moments, GivenOrNone>(work, scalars->of(Compute<P>()),
                                               row * lag.row_elements + column, n);
    }
  }
}
