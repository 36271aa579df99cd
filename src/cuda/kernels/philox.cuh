// Random bits that are a function of a counter: `src/philox.rs` mirrored.
#pragma once
#include "memory.cuh"

// The tensor that is rounded: each has random bits of its own.
enum NoiseStream : u32 { NOISE_PARAM, NOISE_EXP_AVG, NOISE_EXP_AVG_SQ };

struct Words {
  u32 word[4];
};

// `AT_ONCE`: the rounds that stand side by side in the code.
template <int AT_ONCE>
__device__ __forceinline__ Words philox4x32_10(Words counter, u32 key0, u32 key1) {
#pragma unroll AT_ONCE
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

  template <int AT_ONCE>
  __device__ __forceinline__ Words octet(NoiseStream tensor, u64 octet) const {
    return philox4x32_10<AT_ONCE>(
        {{(u32)octet, (u32)(octet >> 32) ^ (u32)tensor << 30, (u32)step, (u32)(step >> 32)}},
        key[0], key[1]);
  }

  // 16 bits for each element of runs. A run's lie in two octets at the most.
  template <class N, int R> __device__ __forceinline__ void
  bits(NoiseStream tensor, u64 element, const N (&)[R], u32 (&noise)[R][4]) const {
#pragma unroll
    for (int run = 0; run < R; run++) {
      const u64 at = first + element + RUN * run;
      const u32 skipped = (u32)(at % 8);
#pragma unroll 1
      for (u32 start = 0; start < skipped + 4; start += 8) {
        const Words words = octet<1>(tensor, (at + start) / 8);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
          const u32 place = skipped + i;
          // Chosen, not indexed: an index that is not known would put the words into local memory.
          const u32 low = place & 2 ? words.word[1] : words.word[0],
                    high = place & 2 ? words.word[3] : words.word[2];
          const u32 bits = (place & 4 ? high : low) >> (place & 1) * 16 & 0xffff;
          if (place - start < 8) noise[run][i] = bits;
        }
      }
    }
  }

  // The same for two runs of which the first starts with half an octet, by all threads of a warp.
  // Two neighbours share the octets of both runs: each makes one of them, and gives half of it
  // away.
  __device__ __forceinline__ void bits(NoiseStream tensor, u64 element, const Whole (&)[2],
                                       u32 (&noise)[2][4]) const {
    const bool is_odd = threadIdx.x % 2;
    const u64 at = first + element + (is_odd ? RUN : 0);
    const Words own = octet<10>(tensor, at / 8);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const u32 lower = own.word[i], upper = own.word[2 + i];
      const u32 kept = is_odd ? upper : lower,
                taken = __shfl_xor_sync(EVERYONE, is_odd ? lower : upper, 1);
      const u32 words[2] = {is_odd ? taken : kept, is_odd ? kept : taken};
#pragma unroll
      for (int run = 0; run < 2; run++) {
        noise[run][2 * i] = words[run] & 0xffff;
        noise[run][2 * i + 1] = words[run] >> 16;
      }
    }
  }
};
