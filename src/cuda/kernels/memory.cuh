// Loads and stores of elements in global memory. A step touches each element once, so that they go
// past the caches. The compiler takes an address from a table for a generic one: assembly names the
// state space.
#pragma once
#include "storage.cuh"

const u32 THREADS = 256;
const u32 WARP = 32;
const u32 EVERYONE = 0xffffffff;

#define LOAD_4(type, suffix, letter)                                                               \
  __device__ __forceinline__ void load_4(u64 at, type *x) {                                        \
    asm volatile("ld.global.cs.v4." suffix " {%0, %1, %2, %3}, [%4];"                              \
                 : "=" letter(x[0]), "=" letter(x[1]), "=" letter(x[2]), "=" letter(x[3])          \
                 : "l"(at));                                                                       \
  }                                                                                                \
  __device__ __forceinline__ void store_4(u64 at, const type *x) {                                 \
    asm volatile("st.global.cs.v4." suffix " [%0], {%1, %2, %3, %4};" ::"l"(at), letter(x[0]),     \
                 letter(x[1]), letter(x[2]), letter(x[3])                                          \
                 : "memory");                                                                      \
  }                                                                                                \
  __device__ __forceinline__ void load_1(u64 at, type *x) {                                        \
    asm volatile("ld.global.cs." suffix " %0, [%1];" : "=" letter(*x) : "l"(at));                  \
  }                                                                                                \
  __device__ __forceinline__ void store_1(u64 at, const type *x) {                                 \
    asm volatile("st.global.cs." suffix " [%0], %1;" ::"l"(at), letter(*x) : "memory");            \
  }

LOAD_4(float, "f32", "f")
LOAD_4(u16, "u16", "h")

// Four doubles are two vectors.
__device__ __forceinline__ void load_1(u64 at, double *x) {
  asm volatile("ld.global.cs.f64 %0, [%1];" : "=d"(*x) : "l"(at));
}
__device__ __forceinline__ void store_1(u64 at, const double *x) {
  asm volatile("st.global.cs.f64 [%0], %1;" ::"l"(at), "d"(*x) : "memory");
}
__device__ __forceinline__ void load_4(u64 at, double *x) {
  asm volatile("ld.global.cs.v2.f64 {%0, %1}, [%2];" : "=d"(x[0]), "=d"(x[1]) : "l"(at));
  asm volatile("ld.global.cs.v2.f64 {%0, %1}, [%2];" : "=d"(x[2]), "=d"(x[3]) : "l"(at + 16));
}
__device__ __forceinline__ void store_4(u64 at, const double *x) {
  asm volatile("st.global.cs.v2.f64 [%0], {%1, %2};" ::"l"(at), "d"(x[0]), "d"(x[1]) : "memory");
  asm volatile("st.global.cs.v2.f64 [%0], {%1, %2};" ::"l"(at + 16), "d"(x[2]), "d"(x[3])
               : "memory");
}

// Types of 16 bits.
#define LIKE_U16(type)                                                                             \
  __device__ __forceinline__ void load_4(u64 at, type *x) { load_4(at, (u16 *)x); }                \
  __device__ __forceinline__ void store_4(u64 at, const type *x) { store_4(at, (const u16 *)x); }  \
  __device__ __forceinline__ void load_1(u64 at, type *x) { load_1(at, (u16 *)x); }                \
  __device__ __forceinline__ void store_1(u64 at, const type *x) { store_1(at, (const u16 *)x); }

LIKE_U16(f16)
LIKE_U16(bf16)
LIKE_U16(i16)

// Single bytes, and four of them as one word.
__device__ __forceinline__ u32 load_byte(u64 at) {
  u32 x;
  asm volatile("ld.global.cs.u8 %0, [%1];" : "=r"(x) : "l"(at));
  return x;
}
__device__ __forceinline__ void store_byte(u64 at, u32 x) {
  asm volatile("st.global.cs.u8 [%0], %1;" ::"l"(at), "r"(x) : "memory");
}
__device__ __forceinline__ u32 load_word(u64 at) {
  u32 x;
  asm volatile("ld.global.cs.u32 %0, [%1];" : "=r"(x) : "l"(at));
  return x;
}
__device__ __forceinline__ void store_word(u64 at, u32 x) {
  asm volatile("st.global.cs.u32 [%0], %1;" ::"l"(at), "r"(x) : "memory");
}

// Numbers that are read again soon, or by other threads.
__device__ __forceinline__ u32 load_u32(u64 at) {
  u32 x;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(x) : "l"(at));
  return x;
}
__device__ __forceinline__ void store_u32(u64 at, u32 x) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(at), "r"(x) : "memory");
}
__device__ __forceinline__ u64 load_u64(u64 at) {
  u64 x;
  asm volatile("ld.global.u64 %0, [%1];" : "=l"(x) : "l"(at));
  return x;
}
__device__ __forceinline__ void store_u64(u64 at, u64 x) {
  asm volatile("st.global.u64 [%0], %1;" ::"l"(at), "l"(x) : "memory");
}

__device__ __forceinline__ u64 exchange_u64(u64 at, u64 x) {
  u64 before;
  asm volatile("atom.global.exch.b64 %0, [%1], %2;" : "=l"(before) : "l"(at), "l"(x) : "memory");
  return before;
}

// Returns whether four elements take one access, or two of 16 bytes.
template <class S> __device__ __forceinline__ bool is_aligned(u64 at) {
  return at % (sizeof(S) < 4 ? 4 * sizeof(S) : 16) == 0;
}

// Loads and stores the first `n` of four elements side by side, in one access if there are four and
// they are aligned for it. The others read as 0.
template <class S> __device__ __forceinline__ void load(u64 base, u64 element, u32 n, S (&x)[4]) {
  const u64 at = base + element * sizeof(S);
  if (n == 4 && is_aligned<S>(at)) return load_4(at, x);
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    x[i] = S();
    if (i < n) load_1(at + i * sizeof(S), &x[i]);
  }
}
template <class S>
__device__ __forceinline__ void store(u64 base, u64 element, u32 n, const S (&x)[4]) {
  const u64 at = base + element * sizeof(S);
  if (n == 4 && is_aligned<S>(at)) return store_4(at, x);
#pragma unroll
  for (u32 i = 0; i < 4; i++)
    if (i < n) store_1(at + i * sizeof(S), &x[i]);
}

// A thread steps one or two runs of four elements. The runs of a warp lie side by side, so that a
// thread's second run is this much behind its first.
const u32 RUN = 4 * WARP;

// The length of a run in a plain step: all four elements are there, and their tensors are aligned
// for vectors.
struct Whole {};

__device__ __forceinline__ constexpr bool may_do_more(u32) { return true; }
__device__ __forceinline__ constexpr bool may_do_more(Whole) { return false; }

// Sets the length of a run, if so many elements are left from its first on.
__device__ __forceinline__ void set_length(u32 &n, u32 left) { n = min(4u, left); }
__device__ __forceinline__ void set_length(Whole, u32) {}

// Returns whether a run has an element.
__device__ __forceinline__ bool has(u32 n, u32 element) { return element < n; }
__device__ __forceinline__ bool has(Whole, u32) { return true; }

template <class S> __device__ __forceinline__ void load(u64 base, u64 element, Whole, S (&x)[4]) {
  load_4(base + element * sizeof(S), x);
}
template <class S>
__device__ __forceinline__ void store(u64 base, u64 element, Whole, const S (&x)[4]) {
  store_4(base + element * sizeof(S), x);
}

// Loads and stores the runs of a thread.
template <class S, class N, int R>
__device__ __forceinline__ void load(u64 base, u64 at, const N (&n)[R], S (&x)[R][4]) {
#pragma unroll
  for (int run = 0; run < R; run++) load(base, at + RUN * run, n[run], x[run]);
}
template <class S, class N, int R>
__device__ __forceinline__ void store(u64 base, u64 at, const N (&n)[R], const S (&x)[R][4]) {
#pragma unroll
  for (int run = 0; run < R; run++) store(base, at + RUN * run, n[run], x[run]);
}

// Visits each element of the runs of a thread.
template <int R, class Visit> __device__ __forceinline__ void each(const Visit &visit) {
#pragma unroll
  for (int run = 0; run < R; run++)
#pragma unroll
    for (int i = 0; i < 4; i++) visit(run, i);
}
template <class S, class T, int R>
__device__ __forceinline__ void widen(const S (&stored)[R][4], T (&wide)[R][4]) {
  each<R>([&](int run, int i) { widen(stored[run][i], wide[run][i]); });
}
template <class S, class T, int R>
__device__ __forceinline__ void narrow(const T (&wide)[R][4], S (&stored)[R][4]) {
  each<R>([&](int run, int i) { narrow(wide[run][i], stored[run][i]); });
}
template <int R> __device__ __forceinline__ void
narrow_randomly(const float (&wide)[R][4], const u32 (&noise)[R][4], bf16 (&stored)[R][4]) {
  each<R>([&](int run, int i) { stored[run][i] = narrow_randomly(wide[run][i], noise[run][i]); });
}
