// Random bits that are a function of seed, name, tensor, step and element: `src/noise.rs` mirrored.
#pragma once
#include "memory.cuh"

// The tensor that is rounded: each has random bits of its own.
enum NoiseStream : u32 { NOISE_PARAM, NOISE_EXP_AVG, NOISE_EXP_AVG_SQ };

const u64 GOLDEN = 0x9e3779b97f4a7c15ull;

__device__ __forceinline__ u64 mix(u64 word) {
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ull;
  word = (word ^ word >> 27) * 0x94d049bb133111ebull;
  return word ^ word >> 31;
}

// The noise of elements whose numbers have the same upper half.
struct Noise {
  u32 offset, mask;

  // Returns 32 random bits for an element, of which the upper ones are the best.
  __device__ __forceinline__ u32 word(u32 element) const {
    u32 word = element + offset;
    word = (word ^ word >> 17) * 0xed5ad4bbu;
    return (word ^ word >> 11 ^ mask) * 0xac4c1b51u;
  }
};

// The source of the random bits of a parameter in one step.
struct Random {
  u64 key;
  u64 first; // of the whole parameter's elements

  __device__ __forceinline__ Noise noise(NoiseStream tensor, u64 upper) const {
    const u64 mixed = mix(key + (upper << 2 | tensor) * GOLDEN);
    return {(u32)mixed, (u32)(mixed >> 32)};
  }

  // 32 bits for each element of runs.
  template <class N, int R> __device__ __forceinline__ void
  bits(NoiseStream tensor, u64 element, const N (&)[R], u32 (&words)[R][4]) const {
    // As good as all elements of a step have this upper half, so that it is mixed once.
    const u64 usual = first >> 32, begin = first + element;
    const Noise noise_of_usual = noise(tensor, usual);
    const bool are_usual = (begin + RUN * (R - 1) + 3) >> 32 == usual;
#pragma unroll
    for (int run = 0; run < R; run++)
#pragma unroll
      for (u32 i = 0; i < 4; i++) {
        const u64 at = begin + RUN * run + i;
        words[run][i] = noise_of_usual.word((u32)at);
        if (!are_usual) words[run][i] = noise(tensor, at >> 32).word((u32)at);
      }
  }
};

__device__ __forceinline__ Random random_at(const u32 (&key)[2], u64 step, u64 first) {
  const u64 of_param = (u64)key[1] << 32 | key[0];
  return {mix(of_param ^ mix(step + GOLDEN)), first};
}
