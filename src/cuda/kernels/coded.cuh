// The step of a chunk whose moments are codes. A warp steps 256 elements at a time, each of its
// threads two runs of four: elements 4 * lane on, and 128 + 4 * lane on. That is one block of 8-bit
// codes or two of 4-bit codes, so that the largest of a block is found within the warp.
#pragma once
#include "step.cuh"

const u32 ROW = 256;

// The four codes at an element, one in each byte of a word.
__device__ __forceinline__ u32 four_bytes(u64 base, u64 at, u32 n) {
  if (n == 4 && (base + at) % 4 == 0) return load_word(base + at);
  u32 word = 0;
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    if (i < n) word |= load_byte(base + at + i) << 8 * i;
  return word;
}
__device__ __forceinline__ void set_four_bytes(u64 base, u64 at, u32 n, u32 word) {
  if (n == 4 && (base + at) % 4 == 0) return store_word(base + at, word);
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    if (i < n) store_byte(base + at + i, word >> 8 * i & 0xff);
}

__device__ __forceinline__ u32 largest_of_warp(u32 x) {
#pragma unroll
  for (u32 lanes = WARP / 2; lanes > 0; lanes /= 2) x = max(x, __shfl_xor_sync(EVERYONE, x, lanes));
  return x;
}

// The places of 8-bit codes: one scale for the whole row.
struct InBytes {
  typedef Bytes Code;
  static const u32 BLOCK = 256;

  static __device__ __forceinline__ u32 codes(u64 base, u64 at, u32 n, u32) {
    return n > 0 ? four_bytes(base, at, n) : 0;
  }
  static __device__ __forceinline__ void set_codes(u64 base, u64 at, u32 n, u32, u32 word) {
    set_four_bytes(base, at, n, word);
  }
  // The largest of each half row's block.
  static __device__ __forceinline__ void join(u32 (&largest)[2]) {
    largest[0] = largest[1] = max(largest[0], largest[1]);
  }
};

// The places of 4-bit codes: byte i of a block has the code of element i in its low half, of
// element i + 64 in its high half. So the lanes below 16 hold the low halves of the bytes of which
// the lanes above hold the high ones.
struct InNibbles {
  typedef Nibbles Code;
  static const u32 BLOCK = 128;

  static __device__ __forceinline__ u64 byte(u64 at, u32 lane) {
    return at / BLOCK * (BLOCK / 2) + lane % 16 * 4;
  }
  static __device__ __forceinline__ u32 codes(u64 base, u64 at, u32 n, u32 lane) {
    if (n == 0) return 0;
    const u32 word = four_bytes(base, byte(at, lane), n);
    return (lane < 16 ? word : word >> 4) & 0x0f0f0f0f;
  }
  static __device__ __forceinline__ void set_codes(u64 base, u64 at, u32 n, u32 lane, u32 word) {
    const u32 high = __shfl_down_sync(EVERYONE, word, 16);
    if (lane < 16) set_four_bytes(base, byte(at, lane), n, word | high << 4);
  }
  static __device__ __forceinline__ void join(u32 (&)[2]) {}
};

// A moment of the elements of one thread.
struct Moment {
  float wide[2][4];

  template <class Place, bool SIGNED>
  __device__ __forceinline__ void open(u64 base, u64 scales, u64 row, const u32 (&n)[2], u32 lane) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const u64 at = row + 128 * half + 4 * lane;
      float scale = 0.0f;
      if (n[half] > 0) load_1(scales + at / Place::BLOCK * 4, &scale);
      const u32 word = Place::codes(base, at, n[half], lane);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const u32 code = word >> 8 * i & 0xff;
        wide[half][i] =
            (SIGNED ? Place::Code::decode_signed(code) : Place::Code::decode_unsigned(code)) *
            scale;
      }
    }
  }

  // `noise` has 16 bits for each element; what is not there is 0 and has the code of 0.
  template <class Place, bool SIGNED>
  __device__ __forceinline__ void close(u64 base, u64 scales, u64 row, const u32 (&n)[2], u32 lane,
                                        const u32 (&noise)[2][4]) const {
    u32 largest[2] = {0, 0};
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (i < n[half]) largest[half] = max(largest[half], magnitude_of(wide[half][i]));
      largest[half] = largest_of_warp(largest[half]);
    }
    Place::join(largest);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const u64 at = row + 128 * half + 4 * lane;
      const float scale = scale_of(largest[half]), inverse = inverse_of(scale);
      u32 word = 0;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float value = wide[half][i];
        const u32 code = SIGNED ? Place::Code::encode_signed(value, inverse, noise[half][i])
                                : Place::Code::encode_unsigned(value, inverse, noise[half][i]);
        if (i < n[half]) word |= code << 8 * i;
      }
      Place::set_codes(base, at, n[half], lane, word);
      if (n[half] > 0 && at % Place::BLOCK == 0) store_1(scales + at / Place::BLOCK * 4, &scale);
    }
  }
};

// Four first moments that are kept as codes. The lanes of the warp have four each, side by side.
template <class Place>
__device__ __forceinline__ void open_codes(const Tensor &t, u64 at, u32 n, float (&wide)[4]) {
  float scale;
  load_1(t.exp_avg_scale + at / Place::BLOCK * 4, &scale);
  const u32 word = Place::codes(t.exp_avg, at, n, threadIdx.x % WARP);
#pragma unroll
  for (int i = 0; i < 4; i++) wide[i] = Place::Code::decode_signed(word >> 8 * i & 0xff) * scale;
}

// Four first moments, however they are kept.
__device__ __forceinline__ void open_exp_avg(const Tensor &t, MomentFormat format, u64 at, u32 n,
                                             float (&wide)[4]) {
  switch (format) {
  case MOMENTS_FULL: return Full::open(t.exp_avg, at, n, wide);
  case MOMENTS_BF16: return Half::open(t.exp_avg, at, n, wide);
  case MOMENTS_BYTES: return open_codes<InBytes>(t, at, n, wide);
  case MOMENTS_NIBBLES: return open_codes<InNibbles>(t, at, n, wide);
  }
}
__device__ __forceinline__ void open_exp_avg(const Tensor &t, MomentFormat, u64 at, u32 n,
                                             double (&wide)[4]) {
  Full::open(t.exp_avg, at, n, wide);
}

template <class P, class Keep, class Place> struct CodedStepper {
  static __device__ __forceinline__ void step_row(const Work &work, u64 row, u32 left, u32 lane) {
    const Tensor &t = work.tensor;
    const u32 n[2] = {min(4u, left - min(left, 4 * lane)),
                      min(4u, left - min(left, 128 + 4 * lane))};
    Moment exp_avg, exp_avg_sq, max_exp_avg_sq;
    exp_avg.open<Place, true>(t.exp_avg, t.exp_avg_scale, row, n, lane);
    exp_avg_sq.open<Place, false>(t.exp_avg_sq, t.exp_avg_sq_scale, row, n, lane);
    if (work.amsgrad())
      max_exp_avg_sq.open<Place, false>(t.max_exp_avg_sq, t.max_exp_avg_sq_scale, row, n, lane);
    u32 first_noise[2][4], second_noise[2][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const u64 at = row + 128 * half + 4 * lane;
      float param[4], grad[4];
      Keep::template open<P>(t, at, n[half], param);
      take_grad<P>(work, at, n[half], grad);
      update(work, param, grad, exp_avg.wide[half], exp_avg_sq.wide[half],
             max_exp_avg_sq.wide[half]);
      Keep::template close<P>(t, at, n[half], param, work.random);
      if (Place::BLOCK == InNibbles::BLOCK) work.random.bits(NOISE_EXP_AVG, at, first_noise[half]);
      work.random.bits(NOISE_EXP_AVG_SQ, at, second_noise[half]);
    }
    const u32 nearest[2][4] = {{HALF, HALF, HALF, HALF}, {HALF, HALF, HALF, HALF}};
    exp_avg.close<Place, true>(t.exp_avg, t.exp_avg_scale, row, n, lane, first_noise);
    exp_avg_sq.close<Place, false>(t.exp_avg_sq, t.exp_avg_sq_scale, row, n, lane, second_noise);
    if (work.amsgrad())
      max_exp_avg_sq.close<Place, false>(t.max_exp_avg_sq, t.max_exp_avg_sq_scale, row, n, lane,
                                         nearest);
  }

  static __device__ __forceinline__ void step(const Work &work) {
    const u32 lane = threadIdx.x % WARP;
    for (u32 row = threadIdx.x / WARP * ROW; row < work.n; row += THREADS / WARP * ROW)
      step_row(work, work.start + row, work.n - row, lane);
  }
};
