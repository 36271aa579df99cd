// Element types in memory: `src/dtype.rs` mirrored. The f16 conversions are the processor's own,
// which give the same bits. NaN stays NaN, but not the same one.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct f16 {
  u16 bits;
};
struct bf16 {
  u16 bits;
};

// The type that a parameter computes in.
template <class S> struct ComputeOf {
  typedef float type;
};
template <> struct ComputeOf<double> {
  typedef double type;
};
template <class S> using Compute = typename ComputeOf<S>::type;

__device__ __forceinline__ u32 bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(u32 bits) { return __uint_as_float(bits); }

__device__ __forceinline__ void widen(float stored, float &wide) { wide = stored; }
__device__ __forceinline__ void widen(float stored, double &wide) { wide = stored; }
__device__ __forceinline__ void widen(double stored, double &wide) { wide = stored; }
__device__ __forceinline__ void widen(bf16 stored, float &wide) {
  wide = float_of((u32)stored.bits << 16);
}
__device__ __forceinline__ void widen(f16 stored, float &wide) {
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(stored.bits));
}

// To nearest even.
__device__ __forceinline__ void narrow(float wide, float &stored) { stored = wide; }
__device__ __forceinline__ void narrow(double wide, double &stored) { stored = wide; }
__device__ __forceinline__ void narrow(float wide, f16 &stored) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(stored.bits) : "f"(wide));
}
__device__ __forceinline__ void narrow(float wide, bf16 &stored) {
  const u32 bits = bits_of(wide);
  const u32 rounded = (bits + (0x7fff + (bits >> 16 & 1))) >> 16;
  stored.bits = (u16)(wide != wide ? 0x7fc0 : rounded);
}

// Returns the bf16 above or below, each as likely as `wide` is near it. `noise` is 32 random bits.
// A NaN that arithmetic has made is one in its upper half, too.
__device__ __forceinline__ bf16 narrow_randomly(float wide, u32 noise) {
  const bool is_finite = fabsf(wide) < float_of(0x7f800000);
  return {(u16)((bits_of(wide) + (is_finite ? noise >> 16 : 0)) >> 16)};
}

// Returns the f32 of which a bf16 and its remainder are the halves.
__device__ __forceinline__ float join(bf16 upper, i16 remainder) {
  return float_of(((u32)upper.bits << 16) + (u32)(int)remainder);
}

// Splits an f32 into the bf16 to which it rounds, half away from zero, and the signed rest.
__device__ __forceinline__ void split(float wide, bf16 &upper, i16 &remainder) {
  u32 bits = bits_of(wide);
  bits = wide != wide ? 0x7fc00000 : bits;
  const u32 above = (bits + 0x8000) >> 16;
  upper.bits = (u16)above;
  remainder = (i16)(bits - (above << 16));
}

// Rounds a value, and its rounding error in turn.
template <class S> __device__ __forceinline__ void compensated(float wide, S &upper, S &rest) {
  float rounded;
  narrow(wide, upper);
  widen(upper, rounded);
  const bool is_infinite = (bits_of(rounded) & 0x7fffffff) == 0x7f800000;
  narrow(is_infinite ? 0.0f : wide - rounded, rest);
}
