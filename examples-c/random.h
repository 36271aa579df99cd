/* SplitMix64 (Steele, Lea, Flood 2014): small, and the same numbers on every machine, which rand() does not promise. */
#ifndef RANDOM_H
#define RANDOM_H
#include <stdint.h>

static inline uint64_t random_bits(uint64_t *state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* In [0, 1), from the upper 53 bits. */
static inline double random_unit(uint64_t *state) { return (double)(random_bits(state) >> 11) * 0x1p-53; }

#endif
