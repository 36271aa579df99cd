// The kernels: which element types and formats there are. `make ptx` compiles them.
#include "accumulate.cuh"
#include "change.cuh"
#include "coded.cuh"
#include "decide.cuh"
#include "norms.cuh"
#include "rows.cuh"

// Returns whether the step is skipped. Without a verdict it is taken.
__device__ __forceinline__ bool is_skipped(const Verdict *verdict) {
  return verdict != nullptr && verdict->skipped;
}

// Decides from the totals of all gradients, `totals [n]`, or from sums that come from outside,
// `outside [n, 2]`, what each is clipped with, `factors [n]`, and whether the step is taken. One
// block; `sums [n_scopes]` is room.
extern "C" __global__ void __launch_bounds__(256, 2)
    decide(const Hyper *hypers, const Total *totals, const double *outside, u32 n, u32 n_scopes,
           u32 skips, Inputs inputs, double *sums, double *factors, Verdict *verdict) {
  decide_all(hypers, {totals, outside}, n, n_scopes, skips, inputs, sums, factors, verdict);
}

// Writes the sums over the gradients of a step for the host, `outside [n, 2]`: squares, and the
// count of what is not finite.
extern "C" __global__ void __launch_bounds__(256, 2)
    put_sums(const Hyper *hypers, const Total *totals, u32 n, double *outside) {
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    const Total total =
        hypers[i].part == PART_STEPPED ? of_mean(hypers[i], totals[i]) : Total{0.0, 0};
    outside[2 * (u64)i] = total.sum_squares;
    outside[2 * (u64)i + 1] = (double)total.n_nonfinite;
  }
}

// Advances the clocks of the parameters that are stepped, `clocks [n]`, and makes their scalars,
// `scalars [n]`. Without `verdict` the step is taken; without `factors` no gradient has been looked
// at, and the verdict is made here.
extern "C" __global__ void __launch_bounds__(256, 2)
    prepare(const Hyper *hypers, u32 n, Inputs inputs, const double *factors, Verdict *verdict,
            Clock *clocks, Scalars *scalars) {
  if (verdict != nullptr && factors == nullptr) {
    const Verdict found = verdict_without_norms(inputs);
    if (blockIdx.x == 0 && threadIdx.x == 0) *verdict = found;
    if (found.skipped) return;
  } else if (is_skipped(verdict)) {
    return;
  }
  for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    const Hyper hyper = hypers[i];
    if (hyper.part != PART_STEPPED) continue;
    const Clock clock = advanced(clocks[i], hyper);
    const Step step =
        step_of(hyper, clock, inputs, factors == nullptr ? hyper.clip_factor : factors[i]);
    const StepScalars<double> wide = scalars_of(step);
    clocks[i] = clock;
    scalars[i] = {clock.step, rounded(wide), wide};
  }
}

// Sets a loss scale. `out [1]` gets it too, if it is not NULL. One thread does it.
extern "C" __global__ void __launch_bounds__(256, 2)
    set_scale(Scaling *scaling, Scaling value, float *out) {
  if (threadIdx.x > 0) return;
  *scaling = value;
  if (out != nullptr) *out = (float)value.scale;
}

// Adapts a loss scale after a step, unless the step was skipped for a number that no step can use.
extern "C" __global__ void __launch_bounds__(256, 2)
    adapt_scale(Scaling *scaling, ScalingRule rule, const Verdict *verdict, float *out) {
  if (threadIdx.x > 0 || verdict->invalid) return;
  const Scaling value = adapted(*scaling, rule, verdict->skipped);
  *scaling = value;
  if (out != nullptr) *out = (float)value.scale;
}

// Goes on to the next learning rate, if the step was taken. One thread does it.
extern "C" __global__ void __launch_bounds__(256, 2)
    advance_lr(Timetable *timetable, const Verdict *verdict) {
  if (threadIdx.x > 0) return;
  if (!is_skipped(verdict)) timetable->next++;
  else if (!timetable->has_lr()) timetable->missed++;
}

// Steps all chunks of tensors that are kept alike: `chunks [n_chunks]`, shared out over the blocks.
template <class Stepper>
__device__ __forceinline__ void step_chunks(const Tensor *tensors, const Chunk *chunks,
                                            u64 n_chunks, const Scalars *scalars, u32 flags,
                                            const Verdict *verdict) {
  if (is_skipped(verdict)) return;
  // Few chunks are shared out in quarters, so that more blocks have some and all end together.
  const u32 shift = n_chunks < 8ull * gridDim.x ? 2 : 0, length = CHUNK >> shift;
  for (u64 i = blockIdx.x; i < n_chunks << shift; i += gridDim.x) {
    const Chunk chunk = chunks[i >> shift];
    const Tensor tensor = tensors[chunk.tensor];
    const u64 start = (u64)chunk.number * CHUNK + (i & ((1 << shift) - 1)) * length;
    if (start >= tensor.n_elements) continue;
    const Scalars *of_tensor = &scalars[chunk.tensor];
    const u32 n = (u32)min(tensor.n_elements - start, (u64)length);
    Stepper::step({tensor, of_tensor, random_of(tensor, of_tensor), start, n, flags});
  }
}

#define STEP(name, ...)                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      step_##name(const Tensor *tensors, const Chunk *chunks, u64 n_chunks,                        \
                  const Scalars *scalars, u32 flags, const Verdict *verdict) {                     \
    step_chunks<__VA_ARGS__>(tensors, chunks, n_chunks, scalars, flags, verdict);                  \
  }

// One way to keep a parameter, with moments that are not codes.
#define KEPT(name, P, Keep)                                                                        \
  STEP(name, Stepper<P, Keep, Full>)                                                               \
  STEP(name##_bf16, Stepper<P, Keep, Half>)

// All ways to keep a parameter, with moments in codes.
#define CODED(name, P, ...)                                                                        \
  STEP(name##_8bit, Stepper<P, OneOf<__VA_ARGS__>, Coded<InBytes>>)                                \
  STEP(name##_4bit, Stepper<P, OneOf<__VA_ARGS__>, Coded<InNibbles>>)

STEP(f64, Stepper<double, Itself, Full>)
KEPT(f32, float, Itself)
KEPT(f16, f16, Itself)
KEPT(f16_master, f16, Master)
KEPT(f16_kahan, f16, Kahan)
KEPT(bf16, bf16, Itself)
KEPT(bf16_master, bf16, Master)
KEPT(bf16_split, bf16, Split)
KEPT(bf16_kahan, bf16, Kahan)
KEPT(bf16_stochastic, bf16, Stochastic)
CODED(f32, float, Itself)
CODED(f16, f16, Itself, Master, Kahan)
CODED(bf16, bf16, Itself, Master, Split, Kahan, Stochastic)

// The sum of squares of each block of 4,096 gradients, and how many of them are not finite: a warp
// takes a block; `sums` and `n_nonfinite [4 * n_chunks]` have a place for each block of each chunk.
template <class G, class T>
__device__ __forceinline__ void tally_chunks(const Tensor *tensors, const Rows *rows,
                                             const Chunk *chunks, u64 n_chunks, double *sums,
                                             u64 *n_nonfinite) {
  const u32 per_chunk = CHUNK / NORM_BLOCK, warps = THREADS / WARP;
  for (u64 i = (u64)blockIdx.x * warps + threadIdx.x / WARP; i < n_chunks * per_chunk;
       i += (u64)gridDim.x * warps) {
    const Chunk chunk = chunks[i / per_chunk];
    const u64 start = (u64)chunk.number * CHUNK + i % per_chunk * NORM_BLOCK,
              end = tensors[chunk.tensor].n_elements;
    if (start >= end) continue;
    const u32 n = (u32)min((u64)NORM_BLOCK, end - start), sparse = tensors[chunk.tensor].rows;
    u32 bad = 0;
    double sum = 0.0;
    if (sparse == 0 || is_listed(rows[sparse - 1], start, n))
      sum = tally_block<G, T>(tensors[chunk.tensor].grad, start, n, bad);
    if (threadIdx.x % WARP == 0) sums[i] = sum, n_nonfinite[i] = bad;
  }
}

#define TALLY(name, G, T)                                                                          \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      tally_##name(const Tensor *tensors, const Rows *rows, const Chunk *chunks, u64 n_chunks,     \
                   double *sums, u64 *n_nonfinite) {                                               \
    tally_chunks<G, T>(tensors, rows, chunks, n_chunks, sums, n_nonfinite);                        \
  }

TALLY(f32, float, float)
TALLY(f64, double, double)
TALLY(f16, f16, float)
TALLY(bf16, bf16, float)

// Joins the sums of the blocks of each tensor in pairs, again and again, in place, and adds up its
// counts: `totals [n]`, of which those without a gradient stay as they are. One block of threads
// joins a tensor.
extern "C" __global__ void __launch_bounds__(256, 2)
    join_sums(const Tensor *tensors, u64 n, double *sums, u64 *n_nonfinite, Total *totals) {
  for (u64 i = blockIdx.x; i < n; i += gridDim.x) {
    if (tensors[i].grad == 0) continue;
    const u64 first = tensors[i].first_chunk * (CHUNK / NORM_BLOCK),
              count = (tensors[i].n_elements + NORM_BLOCK - 1) / NORM_BLOCK;
    for (u64 width = 1; width < count; width *= 2) {
      for (u64 left = 2 * width * threadIdx.x; left + width < count; left += 2 * width * THREADS) {
        sums[first + left] = sums[first + left] + sums[first + left + width];
        n_nonfinite[first + left] = n_nonfinite[first + left] + n_nonfinite[first + left + width];
      }
      __syncthreads();
    }
    if (threadIdx.x == 0)
      totals[i] = count == 0 ? Total{0.0, 0} : Total{sums[first], n_nonfinite[first]};
  }
}

// Writes zeros over the gradients of all chunks, if the step was skipped: otherwise it did so
// itself.
extern "C" __global__ void __launch_bounds__(256, 2)
    clear_skipped(const Tensor *tensors, const Chunk *chunks, u64 n_chunks, const Verdict *verdict,
                  u32 grad_bytes) {
  if (!is_skipped(verdict)) return;
  for (u64 i = blockIdx.x; i < n_chunks; i += gridDim.x) {
    const u64 start = (u64)chunks[i].number * CHUNK, grad = tensors[chunks[i].tensor].grad;
    const u32 n = (u32)min(tensors[chunks[i].tensor].n_elements - start, (u64)CHUNK);
    clear(grad, start, n, grad_bytes);
  }
}

// Adds `grad [n]` to `sum [n]`; the first is the sum. So a master is filled, too.
#define ACCUMULATE(name, T, G)                                                                     \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      accumulate_##name(u64 sum, u64 grad, u64 n, u32 is_first) {                                  \
    accumulate<T, G>(sum, grad, n, is_first);                                                      \
  }

ACCUMULATE(f32_f32, float, float)
ACCUMULATE(f32_f16, float, f16)
ACCUMULATE(f32_bf16, float, bf16)
ACCUMULATE(f64_f64, double, double)
ACCUMULATE(f64_f32, double, float)

// Keeps the weights of some units before a step, at `before`, in the compute type; and adds up what
// the step has changed of each: `updates`, `params` and `n_unchanged [n_units]`.
#define CHANGE(name, P)                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 2) keep_##name(                                \
      const Tensor *tensors, const Chunk *chunks, const Rows *rows, u64 n_units, u64 before) {     \
    each_unit(n_units,                                                                             \
              [&](u64 i) { keep_unit<P>(tensors, unit_of(tensors, chunks, rows, i), before); });   \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      change_##name(const Tensor *tensors, const Chunk *chunks, const Rows *rows, u64 n_units,     \
                    u64 before, const Scalars *scalars, MomentFormat format, double *updates,      \
                    double *params, u64 *n_unchanged) {                                            \
    each_unit(n_units, [&](u64 i) {                                                                \
      const Unit unit = unit_of(tensors, chunks, rows, i);                                         \
      if (unit.n == 0) return;                                                                     \
      const bool moves = scalars[unit.tensor].of(Compute<P>()).step_size != Compute<P>(0);         \
      const Change change = tally_change<P>(tensors[unit.tensor], format, moves, unit, before);    \
      if (threadIdx.x % WARP == 0)                                                                 \
        updates[i] = change.update, params[i] = change.param, n_unchanged[i] = change.n_unchanged; \
    });                                                                                            \
  }

CHANGE(f32, float)
CHANGE(f64, double)
CHANGE(f16, f16)
CHANGE(bf16, bf16)

// Finds the first element of a master that does not round to its parameter: `first [1]` holds the
// largest number before, and keeps it if there is none.
extern "C" __global__ void __launch_bounds__(256, 2)
    check_master_f16(u64 master, u64 param, u64 n, u64 *first) {
  check_master<f16>(master, param, n, first);
}
extern "C" __global__ void __launch_bounds__(256, 2)
    check_master_bf16(u64 master, u64 param, u64 n, u64 *first) {
  check_master<bf16>(master, param, n, first);
}

// The kernels below work on sparse gradients, `tensors [n]`, and share each out over many blocks.
// There are as many shares as digits. Entries are sorted digit by digit, in an odd number of
// passes: from `spare` to `entries` and back.
template <class Work>
__device__ __forceinline__ void each_share(const Rows *tensors, u64 n, const Work &work) {
  for (u64 i = blockIdx.x; i < n * SHARES; i += gridDim.x)
    work(tensors[i / SHARES], (u32)(i % SHARES));
}
template <class Work>
__device__ __forceinline__ void each_tile(const Rows *tensors, u64 n, const Work &work) {
  each_share(tensors, n, [&](const Rows &rows, u32 share) {
    for (u64 tile = share; tile * TILE < rows.n; tile += SHARES) work(rows, tile);
  });
}

// Forgets the rows that were gathered last, and lists those of now.
extern "C" __global__ void __launch_bounds__(256, 2) list_rows(const Rows *tensors, u64 n) {
  __shared__ u32 counts[DIGITS];
  each_share(tensors, n, [](const Rows &rows, u32 share) { forget_rows(rows, share); });
  each_tile(tensors, n, [](const Rows &rows, u64 tile) { list_tile(rows, tile, counts); });
}

// Counts the digits of a pass but the first, whose digits are counted when they are listed.
extern "C" __global__ void __launch_bounds__(256, 2)
    count_digits(const Rows *tensors, u64 n, u32 pass) {
  __shared__ u32 counts[DIGITS];
  each_tile(tensors, n, [=](const Rows &rows, u64 tile) { count_tile(rows, tile, pass, counts); });
}

// Adds up the counts of each digit, over the tiles of lists that have many.
extern "C" __global__ void __launch_bounds__(256, 2) scan_counts(const Rows *tensors, u64 n) {
  each_share(tensors, n, [](const Rows &rows, u32 share) { scan_digit(rows, share); });
}

extern "C" __global__ void __launch_bounds__(256, 2)
    sort_rows(const Rows *tensors, u64 n, u32 pass) {
  each_tile(tensors, n, [=](const Rows &rows, u64 tile) { sort_tile(rows, tile, pass); });
}

// Joins the sums over the listed rows of each tensor: `updates` and `params [n_params]`. One block
// of threads joins a tensor.
extern "C" __global__ void __launch_bounds__(256, 2)
    join_rows(const Rows *tensors, u64 n, Total *updates, Total *params) {
  for (u64 i = blockIdx.x; i < n; i += gridDim.x)
    join_listed(tensors[i], updates[tensors[i].tensor], params[tensors[i].tensor]);
}

// Makes the gradients of the rows that are listed, and notes what was gathered.
extern "C" __global__ void __launch_bounds__(256, 2) gather_rows(const Rows *tensors, u64 n) {
  each_share(tensors, n, [](const Rows &rows, u32 share) { gather(rows, share); });
}

// Steps the rows that are listed, each by a warp. Where rows lag, those catch up before, and so do
// those whose turn it is and that are not listed.
template <class P, class Keep, class Moments>
__device__ __forceinline__ void step_rows(const Tensor *all, const Rows *tensors, u64 n,
                                          const Scalars *scalars, u32 flags,
                                          const Verdict *verdict) {
  if (is_skipped(verdict)) return;
  const u32 warps = THREADS / WARP;
  each_share(tensors, n, [&](const Rows &rows, u32 share) {
    const Lag lag = {rows.lag, rows.height, rows.row_elements};
    const bool lags = rows.lag != 0;
    const u64 steps = lags ? lag.steps() : 0, turn = lags ? lag.turn() : 0,
              end = rows.n + (lags ? lag.turn_end() - turn : 0);
    for (u64 i = (u64)share * warps + threadIdx.x / WARP; i < end; i += SHARES * warps) {
      const bool listed = i < rows.n;
      const u64 row = listed ? row_of(entry_at(rows.entries, i)) : turn + (i - rows.n);
      if (row >= rows.height) continue;
      if (listed ? !is_first(rows.entries, i)
                 : is_listed(rows, row * rows.row_elements, rows.row_elements))
        continue;
      const Scalars *now = listed ? &scalars[rows.tensor] : nullptr;
      step_row<P, Keep, Moments>(all[rows.tensor], lag, row, lags ? taken(lag, row) : steps, steps,
                                 now, flags);
      if (lags) set_taken(lag, row, listed ? steps + 1 : steps);
    }
  });
}

// Brings rows up to date: those with the `numbers [n]`, or all, if there are none.
template <class P, class Keep, class Moments>
__device__ __forceinline__ void catch_up(const Tensor &tensor, const Lag &lag, u64 numbers, u64 n,
                                         u32 is_long, u32 flags, const Verdict *verdict) {
  if (is_skipped(verdict)) return;
  const u64 steps = lag.steps();
  const u32 warps = THREADS / WARP;
  for (u64 i = (u64)blockIdx.x * warps + threadIdx.x / WARP; i < n; i += (u64)gridDim.x * warps) {
    const u64 row = numbers == 0 ? i : (u64)number_at(numbers, is_long, i);
    if (row >= lag.height) continue;
    // If several warps find the same row in the list, the first one takes its steps.
    const u64 taken =
        of_first_lane(threadIdx.x % WARP == 0 ? exchange_u64(lag.taken_at(row), steps) : 0);
    step_row<P, Keep, Moments>(tensor, lag, row, taken, steps, nullptr, flags);
  }
}

// Logs the step for the rows that have not taken it.
extern "C" __global__ void __launch_bounds__(256, 2)
    log_step(const Rows *tensors, u64 n, const Scalars *scalars, const Verdict *verdict) {
  if (is_skipped(verdict)) return;
  for (u64 i = (u64)blockIdx.x * THREADS + threadIdx.x; i < n; i += (u64)gridDim.x * THREADS) {
    const Lag lag = {tensors[i].lag, tensors[i].height, tensors[i].row_elements};
    if (lag.at != 0) lag.count_step(scalars[tensors[i].tensor]);
  }
}

#define ROWS(name, P, Moments, ...)                                                                \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      rows_##name(const Tensor *all, const Rows *tensors, u64 n, const Scalars *scalars,           \
                  u32 flags, const Verdict *verdict) {                                             \
    step_rows<P, OneOf<__VA_ARGS__>, Moments>(all, tensors, n, scalars, flags, verdict);           \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      catch_up_##name(Tensor tensor, Lag lag, u64 numbers, u64 n, u32 is_long, u32 flags,          \
                      const Verdict *verdict) {                                                    \
    catch_up<P, OneOf<__VA_ARGS__>, Moments>(tensor, lag, numbers, n, is_long, flags, verdict);    \
  }

ROWS(f64, double, Full, Itself)
ROWS(f32, float, Full, Itself)
ROWS(f32_bf16, float, Half, Itself)
ROWS(f16, f16, Full, Itself, Master, Kahan)
ROWS(f16_bf16, f16, Half, Itself, Master, Kahan)
ROWS(bf16, bf16, Full, Itself, Master, Split, Kahan, Stochastic)
ROWS(bf16_bf16, bf16, Half, Itself, Master, Split, Kahan, Stochastic)
