// What a kernel's source finds on a GPU, for the C++ compiler.
#pragma once
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "threads.h"

#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

extern "C" {
extern Index emulator_thread, emulator_block, emulator_threads, emulator_blocks;
extern char emulator_exchange[1024][16], emulator_shared[49152];
int emulator_lane();
void emulator_barrier();
void emulator_warp_barrier();
}
#define threadIdx emulator_thread
#define blockIdx emulator_block
#define blockDim emulator_threads
#define gridDim emulator_blocks

// Threads that meet

inline void __syncthreads() { emulator_barrier(); }
inline void __syncwarp(unsigned = ~0u) { emulator_warp_barrier(); }

template <class V>
V emulator_value_of(V x, int lane) {
    int thread = emulator_lane();
    memcpy(emulator_exchange[thread], &x, sizeof x);
    emulator_warp_barrier();
    memcpy(&x, emulator_exchange[thread / 32 * 32 + lane], sizeof x);
    emulator_warp_barrier();
    return x;
}
template <class V>
V __shfl_xor_sync(unsigned, V x, int mask) {
    return emulator_value_of(x, emulator_lane() % 32 ^ mask);
}

template <class V>
V atomicAdd(V* place, V x) {
    V before = *place;
    *place += x;
    return before;
}

template <class V>
V atomicCAS(V* place, V expected, V x) {
    V before = *place;
    if (before == expected) *place = x;
    return before;
}

// Functions that the C++ library lacks

template <class To, class From>
To emulator_bits(From x) {
    To bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
inline float __int_as_float(int x) { return emulator_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emulator_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emulator_bits<int>(x); }
inline double __longlong_as_double(long long x) { return emulator_bits<double>(x); }
inline long long __double_as_longlong(double x) { return emulator_bits<long long>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
template <class A, class B>
auto max(A a, B b) -> decltype(a + b) {
    return a > b ? a : b;
}
template <class A, class B>
auto min(A a, B b) -> decltype(a + b) {
    return a < b ? a : b;
}
inline unsigned short emulator_bfloat16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
inline unsigned short emulator_float16(float x) { return __half_as_ushort(__float2half_rn(x)); }
inline float emulator_float(unsigned short float16) { return __half2float(__ushort_as_half(float16)); }

// A kernel to be called with the places of its arguments, and the arguments' count and sizes

template <class... A, size_t... i>
void emulator_apply(void (*kernel)(A...), void** places, std::index_sequence<i...>) {
    kernel(*(A*)places[i]...);
}
template <class... A>
void emulator_apply(void (*kernel)(A...), void** places) {
    emulator_apply(kernel, places, std::index_sequence_for<A...>{});
}
template <class... A>
constexpr std::array<int, sizeof...(A) + 1> emulator_sizes(void (*)(A...)) {
    return {(int)sizeof...(A), (int)sizeof(A)...};
}
#define EMULATOR_KERNEL(name)                                                           \
    extern "C" void emulator_call_##name(void** places) { emulator_apply(&name, places); } \
    using emulator_type_##name = decltype(emulator_sizes(&name));                       \
    extern "C" {                                                                        \
    extern const emulator_type_##name emulator_sizes_##name;                            \
    const emulator_type_##name emulator_sizes_##name = emulator_sizes(&name);           \
    }
