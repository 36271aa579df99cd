// What kernels find on a device, for those that translate.py makes of them.
#pragma once
#include "threads.h"
#include <cmath>
#include <cstring>
#include <tuple>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline float __fdiv_rn(float a, float b) { return a / b; }

template <class To, class From> To with_bits_of(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline uint32_t __float_as_uint(float x) { return with_bits_of<uint32_t>(x); }
inline float __uint_as_float(uint32_t x) { return with_bits_of<float>(x); }
inline long long __double_as_longlong(double x) { return with_bits_of<long long>(x); }
inline double __longlong_as_double(long long x) { return with_bits_of<double>(x); }
inline void *__cvta_global_to_generic(uint64_t at) { return (void *)at; }

inline float widened_f16(uint16_t bits) { return (float)with_bits_of<_Float16>(bits); }
inline uint16_t narrowed_f16(float x) { return with_bits_of<uint16_t>((_Float16)x); }

#define ORDER(type)                                                                                \
  inline type min(type a, type b) { return b < a ? b : a; }                                        \
  inline type max(type a, type b) { return a < b ? b : a; }
ORDER(int)
ORDER(unsigned)
ORDER(long long)
ORDER(unsigned long long)

inline void __syncthreads() { wait_for_block(); }
template <class T> T __shfl_sync(unsigned, T x, unsigned lane) { return from_lane(x, lane % WARP_SIZE); }
template <class T> T __shfl_xor_sync(unsigned, T x, unsigned lanes) {
  return from_lane(x, threadIdx.x % WARP_SIZE ^ lanes);
}
template <class T> T __shfl_down_sync(unsigned, T x, unsigned lanes) {
  const unsigned lane = threadIdx.x % WARP_SIZE;
  return from_lane(x, lane + lanes < WARP_SIZE ? lane + lanes : lane);
}
inline bool __any_sync(unsigned, bool x) {
  for (unsigned lanes = 1; lanes < WARP_SIZE; lanes *= 2) x |= from_lane(x, threadIdx.x % WARP_SIZE ^ lanes);
  return x;
}

// A thread goes on with no other between both halves: no call comes between them.
template <class T, class U> T atomicAdd(T *at, U x) {
  const T before = *(T *)access((uint64_t)at, sizeof(T));
  *at = before + x;
  return before;
}
template <class T, class U> T atomicMin(T *at, U x) {
  const T before = *(T *)access((uint64_t)at, sizeof(T));
  *at = x < before ? x : before;
  return before;
}
inline unsigned long long exchange(uint64_t at, uint64_t x) {
  const uint64_t before = *(uint64_t *)access(at, sizeof x);
  *(uint64_t *)at = x;
  return before;
}

// An array that the threads of a block share.
template <class T, size_t n, size_t number> struct Shared {
  operator T *() const { return (T *)shared(number, n * sizeof(T)); }
};

// A function, and how its arguments are taken from where a launch has them.
struct Kernel {
  const char *name;
  std::function<std::function<void()>(void **)> bind;
};
extern const Kernel kernels[];
extern const size_t num_kernels;

template <class... Arguments, size_t... places>
std::function<void()> bound(void (*function)(Arguments...), void **arguments, std::index_sequence<places...>) {
  std::tuple<Arguments...> kept{*(Arguments *)arguments[places]...};
  return [=] { std::apply(function, kept); };
}
template <class... Arguments> Kernel kernel(const char *name, void (*function)(Arguments...)) {
  return {name, [=](void **arguments) { return bound(function, arguments, std::index_sequence_for<Arguments...>()); }};
}
