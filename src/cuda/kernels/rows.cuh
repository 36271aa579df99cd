// Sparse gradients: the listed rows are sorted, and the values of each are added up in the order of
// the list. It mirrors `src/tensor/rows.rs` and `src/cpu/rows.rs`.
//
// An entry is a row, and below it its place in the list, so that sorted entries of one row keep
// their order. Rows that the tensor does not have are listed as the one behind its last, and passed
// over.
#pragma once
#include "lag.cuh"

// The blocks that share the work on one tensor. `layout/sparse.rs` has the same numbers.
const u32 SHARES = 256;
// The entries that one block sorts, and the number of digits by which it sorts them.
const u32 TILE = 2048;
const u32 DIGITS = THREADS;
// So many tiles add up the counts of all by themselves.
const u64 FEW_TILES = 8;

__device__ __forceinline__ u64 row_of(u64 entry) { return entry >> 32; }
__device__ __forceinline__ u64 place_of(u64 entry) { return entry & 0xffffffff; }
__device__ __forceinline__ u32 digit_of(u64 entry, u32 pass) {
  return (u32)(row_of(entry) >> 8 * pass) % DIGITS;
}
__device__ __forceinline__ u64 entry_at(u64 entries, u64 i) { return load_u64(entries + 8 * i); }

__device__ __forceinline__ u64 noted(const Rows &rows, Gathered what) {
  return load_u64(rows.gathered + 8 * what);
}
__device__ __forceinline__ void note(const Rows &rows, Gathered what, u64 value) {
  store_u64(rows.gathered + 8 * what, value);
}

// The entries that a pass sorts, and their places after it.
__device__ __forceinline__ u64 from_of(const Rows &rows, u32 pass) {
  return pass % 2 ? rows.entries : rows.spare;
}
__device__ __forceinline__ u64 to_of(const Rows &rows, u32 pass) {
  return pass % 2 ? rows.spare : rows.entries;
}

// Returns whether no entry before the i-th has its row.
__device__ __forceinline__ bool is_first(u64 entries, u64 i) {
  return i == 0 || row_of(entry_at(entries, i - 1)) != row_of(entry_at(entries, i));
}

// Returns the number at a place of a list.
__device__ __forceinline__ i64 number_at(u64 numbers, u32 is_long, u64 place) {
  return is_long ? (i64)load_u64(numbers + 8 * place) : (i64)(int)load_u32(numbers + 4 * place);
}
__device__ __forceinline__ i64 number_at(const Rows &rows, u64 place) {
  return number_at(rows.numbers, rows.is_long, place);
}

__device__ __forceinline__ bool is_double(const Rows &rows) { return rows.type >= VALUES_F64; }

// Calls `visit(i, row)` for the first entry of each row below `height` that belongs to a share, by
// a warp for each.
template <class Visit> __device__ __forceinline__ void each_row(u64 entries, u64 n, u64 height,
                                                                u32 share, const Visit &visit) {
  const u32 warps = THREADS / WARP;
  for (u64 i = (u64)share * warps + threadIdx.x / WARP; i < n; i += SHARES * warps) {
    const u64 row = row_of(entry_at(entries, i));
    if (row < height && is_first(entries, i)) visit(i, row);
  }
}

// Writes zeros over what was gathered last, so that the gradient is zero everywhere.
__device__ __forceinline__ void forget_rows(const Rows &rows, u32 share) {
  const u64 row_elements = noted(rows, GATHERED_ROW_ELEMENTS);
  each_row(rows.entries, noted(rows, GATHERED_N), noted(rows, GATHERED_HEIGHT), share,
           [&](u64, u64 row) {
             const float zero[4] = {};
             const double wide_zero[4] = {};
             for (u64 at = 4 * (threadIdx.x % WARP); at < row_elements; at += 4 * WARP) {
               const u32 left = (u32)min(4ull, row_elements - at);
               if (is_double(rows)) store(rows.grad, row * row_elements + at, left, wide_zero);
               else store(rows.grad, row * row_elements + at, left, zero);
             }
           });
}

// Counts how many entries of a tile, `entry(i)`, have each digit.
template <class Entry> __device__ __forceinline__ void
count_entries(const Rows &rows, u64 tile, u32 pass, u32 *counts, const Entry &entry) {
  counts[threadIdx.x] = 0;
  __syncthreads();
  for (u64 i = tile * TILE + threadIdx.x; i < min((tile + 1) * TILE, rows.n); i += THREADS)
    atomicAdd(&counts[digit_of(entry(i), pass)], 1);
  __syncthreads();
  store_u32(rows.counts + 4 * (tile * DIGITS + threadIdx.x), counts[threadIdx.x]);
}

__device__ __forceinline__ void count_tile(const Rows &rows, u64 tile, u32 pass, u32 *counts) {
  count_entries(rows, tile, pass, counts, [&](u64 i) { return entry_at(from_of(rows, pass), i); });
}

// Makes the entries of a tile of the list, which the first pass sorts.
__device__ __forceinline__ void list_tile(const Rows &rows, u64 tile, u32 *counts) {
  count_entries(rows, tile, 0, counts, [&](u64 i) {
    const i64 number = number_at(rows, i);
    const u64 row = number < 0 ? rows.height : min((u64)number, rows.height), entry = row << 32 | i;
    store_u64(from_of(rows, 0) + 8 * i, entry);
    return entry;
  });
}

__device__ __forceinline__ u64 tiles_of(const Rows &rows) { return (rows.n + TILE - 1) / TILE; }

// Makes of the counts of one digit how many entries have it in earlier tiles. What follows the last
// tile becomes their number in all.
__device__ __forceinline__ void scan_digit(const Rows &rows, u32 digit) {
  __shared__ u32 sums[THREADS];
  const u64 tiles = tiles_of(rows);
  if (tiles <= FEW_TILES) return;
  const u32 thread = threadIdx.x;
  u32 earlier = 0;
  for (u64 base = 0; base <= tiles; base += THREADS) {
    const u64 tile = base + thread, at = rows.counts + 4 * (tile * DIGITS + digit);
    const u32 count = tile < tiles ? load_u32(at) : 0;
    u32 sum = count;
    for (u32 distance = 1; distance < THREADS; distance *= 2) {
      sums[thread] = sum;
      __syncthreads();
      if (thread >= distance) sum += sums[thread - distance];
      __syncthreads();
    }
    if (tile <= tiles) store_u32(at, earlier + sum - count);
    sums[thread] = sum;
    __syncthreads();
    earlier += sums[THREADS - 1];
    __syncthreads();
  }
}

// Counts the entries that have a digit in all tiles, and in those before one.
__device__ __forceinline__ void count_before(const Rows &rows, u64 tile, u32 digit, u64 &total,
                                             u64 &before) {
  const u64 tiles = tiles_of(rows);
  const auto count = [&](u64 of) { return load_u32(rows.counts + 4 * (of * DIGITS + digit)); };
  if (tiles > FEW_TILES) {
    before = count(tile), total = count(tiles); // as `scan_digit` has left them
    return;
  }
  total = before = 0;
  for (u64 other = 0; other < tiles; other++) {
    if (other == tile) before = total;
    total += count(other);
  }
}

// Puts the entries of a tile where they belong by one digit: behind all that have a lower one, and
// those of the same digit in the order that they have. Thread d finds the places of the entries
// with the digit d.
__device__ __forceinline__ void sort_tile(const Rows &rows, u64 tile, u32 pass) {
  __shared__ u64 totals[DIGITS], places[THREADS];
  __shared__ u32 digits[THREADS];
  const u32 thread = threadIdx.x, NONE = DIGITS;
  u64 total, next;
  count_before(rows, tile, thread, total, next);
  totals[thread] = total;
  __syncthreads();
  for (u32 lower = 0; lower < thread; lower++) next += totals[lower];
  for (u64 base = tile * TILE; base < min((tile + 1) * TILE, rows.n); base += THREADS) {
    const u64 i = base + thread;
    const u64 entry = i < rows.n ? entry_at(from_of(rows, pass), i) : 0;
    digits[thread] = i < rows.n ? digit_of(entry, pass) : NONE;
    __syncthreads();
    for (u32 j = 0; j < THREADS; j++)
      if (digits[j] == thread) places[j] = next++;
    __syncthreads();
    if (i < rows.n) store_u64(to_of(rows, pass) + 8 * places[thread], entry);
  }
}

// Adds up the values of the entries of one row, of which the i-th is the first, and makes them its
// gradient.
template <class T, class G>
__device__ __forceinline__ void gather_row(const Rows &rows, u64 i, u64 row) {
  for (u64 at = 4 * (threadIdx.x % WARP); at < rows.row_elements; at += 4 * WARP) {
    const u32 left = (u32)min(4ull, rows.row_elements - at);
    T sum[4] = {};
    for (u64 j = i; j < rows.n; j++) {
      const u64 entry = entry_at(rows.entries, j);
      if (row_of(entry) != row) break;
      G stored[4];
      T wide[4];
      load(rows.values, place_of(entry) * rows.row_elements + at, left, stored);
#pragma unroll
      for (int k = 0; k < 4; k++) {
        widen(stored[k], wide[k]);
        sum[k] = j == i ? wide[k] : sum[k] + wide[k];
      }
    }
    store(rows.grad, row * rows.row_elements + at, left, sum);
  }
}

// Returns whether an entry is the first of a row that the tensor has.
__device__ __forceinline__ bool is_counted(const Rows &rows, u64 i) {
  return row_of(entry_at(rows.entries, i)) < rows.height && is_first(rows.entries, i);
}

// The sums over what a step has changed of each row, at the place of its first entry.
struct RowSums {
  double *updates, *params; // [n]
  u64 *n_unchanged; // [n]

  __device__ __forceinline__ explicit RowSums(const Rows &rows)
      : updates((double *)__cvta_global_to_generic(rows.spare)), params(updates + rows.n),
        n_unchanged((u64 *)(params + rows.n)) {}
};

// Moves the sums over rows together, and returns their number.
__device__ __forceinline__ u64 close_up(const Rows &rows, const RowSums &sums) {
  __shared__ u32 counts[THREADS];
  const u32 thread = threadIdx.x;
  u64 n = 0;
  for (u64 base = 0; base < rows.n; base += THREADS) {
    const u64 i = base + thread;
    const bool counted = i < rows.n && is_counted(rows, i);
    const double update = counted ? sums.updates[i] : 0.0, param = counted ? sums.params[i] : 0.0;
    const u64 n_unchanged = counted ? sums.n_unchanged[i] : 0;
    u32 earlier = counted;
    for (u32 distance = 1; distance < THREADS; distance *= 2) {
      counts[thread] = earlier;
      __syncthreads();
      if (thread >= distance) earlier += counts[thread - distance];
      __syncthreads();
    }
    counts[thread] = earlier;
    __syncthreads();
    if (counted) {
      const u64 to = n + earlier - 1;
      sums.updates[to] = update, sums.params[to] = param, sums.n_unchanged[to] = n_unchanged;
    }
    n += counts[THREADS - 1];
    __syncthreads();
  }
  return n;
}

// Joins the sums over rows in pairs, again and again. By a block.
__device__ __forceinline__ void join_listed(const Rows &rows, Total &update, Total &param) {
  const RowSums sums(rows);
  const u64 n = close_up(rows, sums);
  for (u64 width = 1; width < n; width *= 2) {
    for (u64 left = 2 * width * threadIdx.x; left + width < n; left += 2 * width * THREADS) {
      sums.updates[left] = sums.updates[left] + sums.updates[left + width];
      sums.params[left] = sums.params[left] + sums.params[left + width];
      sums.n_unchanged[left] = sums.n_unchanged[left] + sums.n_unchanged[left + width];
    }
    __syncthreads();
  }
  if (threadIdx.x > 0) return;
  update = n == 0 ? Total{0.0, 0} : Total{sums.updates[0], sums.n_unchanged[0]};
  param = n == 0 ? Total{0.0, 0} : Total{sums.params[0], 0};
}

// Returns whether a listed row has some of the `n` elements from `start` on. If none has, the
// gradient is zero there.
__device__ __forceinline__ bool is_listed(const Rows &rows, u64 start, u32 n) {
  const u64 first = start / rows.row_elements, last = (start + n - 1) / rows.row_elements;
  u64 low = 0, high = rows.n;
  while (low < high) {
    const u64 middle = low + (high - low) / 2;
    if (row_of(entry_at(rows.entries, middle)) < first) low = middle + 1;
    else high = middle;
  }
  return low < rows.n && row_of(entry_at(rows.entries, low)) <= last;
}

// Notes the first row that the tensor does not have, if none is noted, and what was gathered.
__device__ __forceinline__ void note_list(const Rows &rows, u32 share) {
  for (u64 i = (u64)share * THREADS + threadIdx.x; i < rows.n; i += SHARES * THREADS) {
    const u64 entry = entry_at(rows.entries, i);
    if (row_of(entry) != rows.height || !is_first(rows.entries, i) ||
        noted(rows, OUTSIDE_PLACE) != 0)
      continue;
    note(rows, OUTSIDE_PLACE, place_of(entry) + 1);
    note(rows, OUTSIDE_ROW, (u64)number_at(rows, place_of(entry)));
    note(rows, OUTSIDE_HEIGHT, rows.height);
  }
  if (share == 0 && threadIdx.x == 0) {
    note(rows, GATHERED_N, rows.n);
    note(rows, GATHERED_ROW_ELEMENTS, rows.row_elements);
    note(rows, GATHERED_HEIGHT, rows.height);
  }
}

__device__ __forceinline__ void gather(const Rows &rows, u32 share) {
  note_list(rows, share);
  each_row(rows.entries, rows.n, rows.height, share, [&](u64 i, u64 row) {
    switch (rows.type) {
    case VALUES_F32: return gather_row<float, float>(rows, i, row);
    case VALUES_F16: return gather_row<float, f16>(rows, i, row);
    case VALUES_BF16: return gather_row<float, bf16>(rows, i, row);
    case VALUES_F64: return gather_row<double, double>(rows, i, row);
    case VALUES_F32_IN_F64: return gather_row<double, float>(rows, i, row);
    }
  });
}
