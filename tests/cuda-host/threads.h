// The threads of a grid on one processor: each is a fiber. Blocks run two at a time, and threads go
// on in any order that barriers allow.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

const unsigned WARP_SIZE = 32;

struct Place {
  unsigned x, y, z;
};
extern Place threadIdx, blockIdx, gridDim;

// Runs a kernel on all blocks.
void run_grid(unsigned blocks, unsigned threads, const std::function<void()> &kernel);

// The rest is what a kernel calls.

// Waits until all threads of the block are here.
void wait_for_block();
// Waits until all threads of the warp are here, and returns the bits that a lane has brought.
uint64_t exchanged(uint64_t bits, unsigned lane);
// Memory that the threads of the block share, filled with what nobody wrote.
void *shared(size_t number, size_t num_bytes);
// Returns an address that is aligned for so many bytes; other threads may go on before.
uint64_t access(uint64_t at, size_t num_bytes);

template <class T> T from_lane(T x, unsigned lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof x);
  bits = exchanged(bits, lane);
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// A random number below `n`.
uint32_t random_below(uint32_t n);
// Ends the program with a text: what follows would be no device's doing.
[[noreturn]] void stop(const char *why);
