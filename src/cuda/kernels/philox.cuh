// Random bits that are a function of a counter: `src/philox.rs` mirrored.
#pragma once
#include "storage.cuh"

// The tensor that is rounded: each has random bits of its own.
enum NoiseStream : u32 { NOISE_PARAM, NOISE_EXP_AVG, NOISE_EXP_AVG_SQ };

struct Words {
  u32 word[4];
};

__device__ __forceinline__ Words philox4x32_10(Words counter, u32 key0, u32 key1) {
  // A loop, not its ten bodies: the kernels call it in many places.
#pragma unroll 1
  for (int round = 0; round < 10; round++) {
    const u64 product0 = (u64)counter.word[0] * 0xd2511f53u,
              product1 = (u64)counter.word[2] * 0xcd9e8d57u;
    counter = {{(u32)(product1 >> 32) ^ counter.word[1] ^ key0, (u32)product1,
                (u32)(product0 >> 32) ^ counter.word[3] ^ key1, (u32)product0}};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return counter;
}

// The source of the random bits of a parameter in one step.
struct Random {
  u32 key[2];
  u64 step;
  u64 first; // of the whole parameter's elements

  __device__ __forceinline__ Words octet(NoiseStream tensor, u64 octet) const {
    return philox4x32_10(
        {{(u32)octet, (u32)(octet >> 32) ^ (u32)tensor << 30, (u32)step, (u32)(step >> 32)}},
        key[0], key[1]);
  }

  // 16 bits for each of N elements side by side, N at most 8: they lie in two octets at the most.
  template <int N>
  __device__ __forceinline__ void bits(NoiseStream tensor, u64 element, u32 (&noise)[N]) const {
    const u64 at = first + element;
    const u32 skipped = (u32)(at % 8);
#pragma unroll 1
    for (u32 start = 0; start < skipped + N; start += 8) {
      const Words words = octet(tensor, (at + start) / 8);
#pragma unroll
      for (u32 i = 0; i < N; i++) {
        const u32 place = skipped + i;
        // Chosen, not indexed: an index that is not known would put the words into local memory.
        const u32 low = place & 2 ? words.word[1] : words.word[0],
                  high = place & 2 ? words.word[3] : words.word[2];
        const u32 bits = (place & 4 ? high : low) >> (place & 1) * 16 & 0xffff;
        if (place - start < 8) noise[i] = bits;
      }
    }
  }
};
