"""CUDA C that every kernel may call: loads, stores and sums of a warp. COMMON suits a host, too, DEVICE a GPU alone."""

COMMON = """\
#define FORGET_LOADS asm volatile("" ::: "memory")  // what was loaded is not kept in registers for later loads
template <class V> __device__ V maximum(V a, V b) { return a >= b || a != a ? a : b; }  // NaN if either is
template <class V> __device__ V minimum(V a, V b) { return a <= b || a != a ? a : b; }
template <class V> __device__ V load(const V* p, long long i) { return p[i]; }
template <class V> __device__ void store(V* p, long long i, V x) { p[i] = x; }
template <int N, class V> struct alignas(N * sizeof(V) < 16 ? N * sizeof(V) : 16) Several { V x[N]; };
template <class V> using Four = Several<4, V>;  // neighbours, moved by one instruction, or by one for each 16 bytes
template <int N, class V> __device__ Several<N, V> load_several(const V* p, long long i) {
    return *(const Several<N, V>*)(p + i);
}
template <int N, class V> __device__ void store_several(V* p, long long i, Several<N, V> x) {
    *(Several<N, V>*)(p + i) = x;
}
template <class V> __device__ Four<V> load_four(const V* p, long long i) { return load_several<4>(p, i); }
template <class V> __device__ void store_four(V* p, long long i, Four<V> x) { store_several(p, i, x); }
template <int N, class V> __device__ bool lies_dense(
    const V* p, long long inner, long long outer, long long length, long long count  // strides, entries side by side
) {
    return (unsigned long long)p % sizeof(Several<N, V>) == 0 && (length == 1 || inner == 1)
        && (count == 1 || outer == length);
}
struct bfloat16 { unsigned short bits; };
struct float16 { unsigned short bits; };
__device__ float load(const bfloat16* p, long long i) { return from_bfloat16(p[i].bits); }
__device__ float load(const float16* p, long long i) { return from_float16(p[i].bits); }
__device__ void store(bfloat16* p, long long i, float x) { p[i].bits = to_bfloat16(x); }
__device__ void store(float16* p, long long i, float x) { p[i].bits = to_float16(x); }
template <class V> __device__ V sum_of(V x, int lanes) {
    for (int d = lanes / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}
template <class V> __device__ V sum_of_block(V x, V* of_warps) {
    x = sum_of(x, WARP);
    __syncthreads();  // all threads have read what was there
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < BLOCK / WARP; i++) x += of_warps[i];
    return x;
}
template <class V> __device__ V max_of(V x, int lanes) {
    for (int d = lanes / 2; d > 0; d /= 2) x = maximum(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}
"""

DEVICE = """\
#define WARP 32
#define BLOCK 256
#define LOWEST (-__int_as_float(0x7f800000))
__device__ float from_bfloat16(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }
__device__ unsigned short to_bfloat16(float x) {
#if __CUDA_ARCH__ >= 800
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#else
    const unsigned wide = __float_as_uint(x);
    return x != x ? 0x7fff : (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
#endif
}
__device__ float from_float16(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
__device__ unsigned short to_float16(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
"""
