// Moments in 8 and 4 bits, one element: `src/codes.rs` and `src/codes/nibbles.rs` mirrored.
#pragma once
#include "storage.cuh"

const u32 ONE = 0x3f800000; // the bits of 1.0f

// A scale is a normal number, so that its reciprocal is finite. `largest` is the bits of a
// magnitude.
__device__ __forceinline__ float scale_of(u32 largest) {
  return float_of(max(largest, 0x00800000u));
}
__device__ __forceinline__ float inverse_of(float scale) { return __fdiv_rn(1.0f, scale); }
__device__ __forceinline__ u32 magnitude_of(float x) { return bits_of(x) & 0x7fffffff; }

// Codes of 8 bits: what is left of a sum of bits, of the magnitude and of the larger of it and the
// knee.
template <u32 TOP> struct Taper {
  static const u32 DROPPED = 20;
  static const u32 KNEE = ONE - ((TOP + 1) / 2 << (DROPPED - 1));
  static const u32 BIAS = (ONE >> (DROPPED - 1)) - TOP;

  static __device__ __forceinline__ u32 decode(u32 code) {
    const u32 sum = (code + BIAS) << DROPPED;
    return code == 0 ? 0 : min(sum >> 1, sum - KNEE);
  }
  static __device__ __forceinline__ u32 encode(u32 bits, u32 up, u32 least) {
    bits = min(bits, ONE);
    const int above = bits + max(bits, KNEE) + up - (BIAS << DROPPED);
    return (u32)max(above, (int)(least << DROPPED)) >> DROPPED;
  }
};

struct Bytes {
  typedef Taper<127> Signed;
  typedef Taper<255> Unsigned;

  static __device__ __forceinline__ float decode_signed(u32 code) {
    return float_of(Signed::decode(code & 0x7f) | (code & 0x80) << 24);
  }
  static __device__ __forceinline__ float decode_unsigned(u32 code) {
    return float_of(Unsigned::decode(code));
  }

  // To nearest.
  static __device__ __forceinline__ u32 encode_signed(float value, float inverse, u32) {
    return Signed::encode(magnitude_of(value * inverse), 1 << (Signed::DROPPED - 1), 0) |
           (value < 0.0f ? 0x80 : 0);
  }
  static __device__ __forceinline__ u32 encode_unsigned(float value, float inverse, u32 noise) {
    const u32 up = noise >> (32 - Unsigned::DROPPED);
    return value == 0.0f ? 0 : Unsigned::encode(bits_of(value * inverse), up, 1);
  }
};

// Codes of 4 bits: octaves, rounded up or down at random.
struct Nibbles {
  static const u32 FRACTION = 23;
  static const u32 BIAS_SIGNED = (ONE >> FRACTION) - 7;
  static const u32 BIAS_UNSIGNED = (ONE >> FRACTION) - 15;
  static const u32 SMALLEST = (BIAS_SIGNED + 1) << FRACTION;

  static __device__ __forceinline__ u32 magnitude(u32 code, u32 bias) {
    return code == 0 ? 0 : (code + bias) << FRACTION;
  }
  static __device__ __forceinline__ float decode_signed(u32 code) {
    return float_of(magnitude(code & 7, BIAS_SIGNED) | (code & 8) << 28);
  }
  static __device__ __forceinline__ float decode_unsigned(u32 code) {
    return float_of(magnitude(code, BIAS_UNSIGNED));
  }

  static __device__ __forceinline__ u32 octave(u32 bits, u32 noise) {
    return (min(bits, ONE) + (noise >> (32 - FRACTION))) >> FRACTION;
  }
  static __device__ __forceinline__ u32 encode_signed(float value, float inverse, u32 noise) {
    const u32 bits = magnitude_of(value * inverse);
    const u32 lifted = bits_of(float_of(bits) + float_of(SMALLEST)) - (1 << FRACTION);
    const u32 code = octave(bits < SMALLEST ? lifted : bits, noise) - BIAS_SIGNED;
    return code | (value < 0.0f ? 8 : 0);
  }
  static __device__ __forceinline__ u32 encode_unsigned(float value, float inverse, u32 noise) {
    const u32 code =
        max(octave(magnitude_of(value * inverse), noise), BIAS_UNSIGNED + 1) - BIAS_UNSIGNED;
    return value == 0.0f ? 0 : code;
  }
};
