// Moments that are codes. The two runs of a warp are one block of 8-bit codes, or two of 4-bit
// codes, so that the largest of a block is found within the warp.
#pragma once
#include "codes.cuh"
#include "step.cuh"

// The four codes at a place, one in each byte of a word.
__device__ __forceinline__ u32 four_bytes(u64 at, Whole) { return load_word(at); }
__device__ __forceinline__ void set_four_bytes(u64 at, Whole, u32 word) { store_word(at, word); }
__device__ __forceinline__ u32 four_bytes(u64 at, u32 n) {
  if (n == 4 && at % 4 == 0) return load_word(at);
  u32 word = 0;
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    if (i < n) word |= load_byte(at + i) << 8 * i;
  return word;
}
__device__ __forceinline__ void set_four_bytes(u64 at, u32 n, u32 word) {
  if (n == 4 && at % 4 == 0) return store_word(at, word);
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    if (i < n) store_byte(at + i, word >> 8 * i & 0xff);
}

// Returns the largest of one of K numbers that each thread of a warp has: of the first to the first
// 32 / K threads, and so on.
template <int K> __device__ __forceinline__ u32 largest_of_warp(u32 (&x)[K]) {
  u32 lanes = WARP / 2;
#pragma unroll
  for (int half = K / 2; half > 0; half /= 2, lanes /= 2) {
    const bool is_upper = threadIdx.x & lanes;
#pragma unroll
    for (int i = 0; i < half; i++) {
      const u32 given = is_upper ? x[i] : x[i + half], kept = is_upper ? x[i + half] : x[i];
      x[i] = max(kept, __shfl_xor_sync(EVERYONE, given, lanes));
    }
  }
#pragma unroll
  for (; lanes > 0; lanes /= 2) x[0] = max(x[0], __shfl_xor_sync(EVERYONE, x[0], lanes));
  return x[0];
}

// Returns whether a thread of the warp has elements in a run.
__device__ __forceinline__ bool anyone_has(u32 n) { return __any_sync(EVERYONE, n > 0); }
__device__ __forceinline__ bool anyone_has(Whole) { return true; }

// The places of 8-bit codes.
struct InBytes {
  typedef Bytes Code;
  static const u32 BLOCK = 256;
  static const bool FIRST_IS_RANDOM = false; // exp_avg; exp_avg_sq is rounded at random

  template <class N>
  static __device__ __forceinline__ u32 codes(u64 base, u64 at, const N &n, u32) {
    return four_bytes(base + at, n);
  }
  template <class N>
  static __device__ __forceinline__ void set_codes(u64 base, u64 at, const N &n, u32, u32 word) {
    set_four_bytes(base + at, n, word);
  }
};

// The places of 4-bit codes: byte i of a block has the code of element i in its low half, of
// element i + 64 in its high half. So the lanes below 16 hold the low halves of the bytes of which
// the lanes above hold the high ones.
struct InNibbles {
  typedef Nibbles Code;
  static const u32 BLOCK = 128;
  static const bool FIRST_IS_RANDOM = true;

  static __device__ __forceinline__ u64 byte(u64 at, u32 lane) {
    return at / BLOCK * (BLOCK / 2) + lane % 16 * 4;
  }
  template <class N>
  static __device__ __forceinline__ u32 codes(u64 base, u64 at, const N &n, u32 lane) {
    const u32 word = four_bytes(base + byte(at, lane), n);
    return (lane < 16 ? word : word >> 4) & 0x0f0f0f0f;
  }
  template <class N> static __device__ __forceinline__ void set_codes(u64 base, u64 at, const N &n,
                                                                      u32 lane, u32 word) {
    const u32 high = __shfl_down_sync(EVERYONE, word, 16);
    if (lane < 16) set_four_bytes(base + byte(at, lane), n, word | high << 4);
  }
};

template <class Place> struct Coded {
  typedef typename Place::Code Code;
  static const int RUNS = 2;
  static const int BLOCKS = 2 * RUN / Place::BLOCK; // of a moment's codes in the runs of a warp

  // The block of codes, among those of the two runs, that a run belongs to.
  static __device__ __forceinline__ constexpr int block_of(int run) {
    return RUN * run / Place::BLOCK;
  }

  template <bool SIGNED, class N, int R> static __device__ __forceinline__ void
  open_one(u64 base, u64 scales, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    const u32 lane = threadIdx.x % WARP;
    float scale = 0.0f;
#pragma unroll
    for (int run = 0; run < R; run++) {
      const u64 place = at + RUN * run;
      u32 word = 0;
      if (has(n[run], 0)) {
        if (run == 0 || block_of(run) > 0) load_1(scales + place / Place::BLOCK * 4, &scale);
        word = Place::codes(base, place, n[run], lane);
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const u32 code = word >> 8 * i & 0xff;
        wide[run][i] = (SIGNED ? Code::decode_signed(code) : Code::decode_unsigned(code)) * scale;
      }
    }
  }
  // `noise` has 32 bits for each element; what is not there is 0 and has the code of 0.
  template <bool SIGNED, class N>
  static __device__ __forceinline__ void close_one(u64 base, u64 at, const N (&n)[2],
                                                   const float (&wide)[2][4], const float *inverses,
                                                   const u32 (&noise)[2][4]) {
#pragma unroll
    for (int run = 0; run < 2; run++) {
      const float inverse = inverses[block_of(run)];
      u32 word = 0;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float value = wide[run][i];
        const u32 code = SIGNED ? Code::encode_signed(value, inverse, noise[run][i])
                                : Code::encode_unsigned(value, inverse, noise[run][i]);
        if (has(n[run], i)) word |= code << 8 * i;
      }
      Place::set_codes(base, at + RUN * run, n[run], threadIdx.x % WARP, word);
    }
  }

  // Finds the scales of M moments by their largest magnitudes, and stores them. Returns their
  // inverses.
  template <int M, class N>
  static __device__ __forceinline__ void close_scales(const u64 (&scales)[M], u64 at,
                                                      const N (&n)[2], u32 (&largest)[M * BLOCKS],
                                                      float (&inverses)[M * BLOCKS]) {
    const u32 lanes = WARP / (M * BLOCKS), number = threadIdx.x % WARP / lanes;
    const float scale = scale_of(largest_of_warp(largest)), inverse = inverse_of(scale);
    const u64 block = at / (2 * RUN) * BLOCKS + number % BLOCKS;
    const bool runs[2] = {anyone_has(n[0]), anyone_has(n[1])};
    if (threadIdx.x % lanes == 0 && (number % BLOCKS == 0 ? runs[0] : runs[1]))
      store_1((number < BLOCKS ? scales[0] : scales[M - 1]) + 4 * block, &scale);
#pragma unroll
    for (int i = 0; i < M * BLOCKS; i++) inverses[i] = __shfl_sync(EVERYONE, inverse, i * lanes);
  }
  template <class N> static __device__ __forceinline__ void
  add_largest(const N (&n)[2], const float (&wide)[2][4], u32 *largest) {
    each<2>([&](int run, int i) {
      u32 &of_block = largest[block_of(run)];
      if (has(n[run], i)) of_block = max(of_block, magnitude_of(wide[run][i]));
    });
  }

  template <class N, int R>
  static __device__ __forceinline__ void open(const Tensor &t, u64 at, const N (&n)[R],
                                              float (&exp_avg)[R][4], float (&exp_avg_sq)[R][4]) {
    open_one<true>(t.exp_avg, t.exp_avg_scale, at, n, exp_avg);
    open_one<false>(t.exp_avg_sq, t.exp_avg_sq_scale, at, n, exp_avg_sq);
  }
  template <class N>
  static __device__ __forceinline__ void close(const Tensor &t, const Random &random, u64 at,
                                               const N (&n)[2], const float (&exp_avg)[2][4],
                                               const float (&exp_avg_sq)[2][4]) {
    u32 largest[2 * BLOCKS] = {}, noise[2][4] = {};
    float inverses[2 * BLOCKS];
    add_largest(n, exp_avg, largest);
    add_largest(n, exp_avg_sq, largest + BLOCKS);
    close_scales<2>({t.exp_avg_scale, t.exp_avg_sq_scale}, at, n, largest, inverses);
    if (Place::FIRST_IS_RANDOM) random.bits(NOISE_EXP_AVG, at, n, noise);
    close_one<true>(t.exp_avg, at, n, exp_avg, inverses, noise);
    random.bits(NOISE_EXP_AVG_SQ, at, n, noise);
    close_one<false>(t.exp_avg_sq, at, n, exp_avg_sq, inverses + BLOCKS, noise);
  }
  template <class N, int R> static __device__ __forceinline__ void
  open_max(const Tensor &t, u64 at, const N (&n)[R], float (&wide)[R][4]) {
    open_one<false>(t.max_exp_avg_sq, t.max_exp_avg_sq_scale, at, n, wide);
  }
  template <class N> static __device__ __forceinline__ void
  close_max(const Tensor &t, u64 at, const N (&n)[2], const float (&wide)[2][4]) {
    const u32 half = 1u << 31; // which rounds to nearest
    const u32 nearest[2][4] = {{half, half, half, half}, {half, half, half, half}};
    u32 largest[BLOCKS] = {};
    float inverses[BLOCKS];
    add_largest(n, wide, largest);
    close_scales<1>({t.max_exp_avg_sq_scale}, at, n, largest, inverses);
    close_one<false>(t.max_exp_avg_sq, at, n, wide, inverses, nearest);
  }
};

// Four first moments, however they are kept. Where they are codes, the lanes of the warp have four
// each, side by side.
__device__ __forceinline__ void open_exp_avg(const Tensor &t, MomentFormat format, u64 at,
                                             const u32 (&n)[1], float (&wide)[1][4]) {
  switch (format) {
  case MOMENTS_FULL: return load(t.exp_avg, at, n, wide);
  case MOMENTS_BF16: return Half::open_one(t.exp_avg, at, n, wide);
  case MOMENTS_BYTES:
    return Coded<InBytes>::open_one<true>(t.exp_avg, t.exp_avg_scale, at, n, wide);
  case MOMENTS_NIBBLES:
    return Coded<InNibbles>::open_one<true>(t.exp_avg, t.exp_avg_scale, at, n, wide);
  }
}
__device__ __forceinline__ void open_exp_avg(const Tensor &t, MomentFormat, u64 at,
                                             const u32 (&n)[1], double (&wide)[1][4]) {
  load(t.exp_avg, at, n, wide);
}
