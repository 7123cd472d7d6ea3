// Matrices by columns in the floats of cuBLAS and cuBLASLt, on memory and streams of cuda.cpp.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <library_types.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <vector>

extern "C" {
int emulator_enqueue(void* stream, const void* work, const void* places);
int emulator_is_captured(void* stream);
void emulator_refuse();
void emulator_note(const char* what);
void emulator_require_inside(const void* place, size_t size, const char* what);
}

namespace {

enum Status { SUCCESS = 0, INVALID_VALUE = 7, INTERNAL_ERROR = 14, NOT_SUPPORTED = 15 };
enum Compute { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_FAST_TF32 = 77 };

using Places = std::vector<const void*>;

float rounded_to_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}

size_t bytes(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

double entry(const void* place, size_t i, cudaDataType type) {
    switch (type) {
        case CUDA_R_32F: return ((float*)place)[i];
        case CUDA_R_64F: return ((double*)place)[i];
        case CUDA_R_16F: return __half2float(((__half*)place)[i]);
        case CUDA_R_16BF: return __bfloat162float(((__nv_bfloat16*)place)[i]);
        default: abort();
    }
}

void set_entry(void* place, size_t i, cudaDataType type, double x) {
    switch (type) {
        case CUDA_R_32F: ((float*)place)[i] = (float)x; break;
        case CUDA_R_64F: ((double*)place)[i] = x; break;
        case CUDA_R_16F: ((__half*)place)[i] = __float2half_rn((float)x); break;
        case CUDA_R_16BF: ((__nv_bfloat16*)place)[i] = __float2bfloat16_rn((float)x); break;
        default: abort();
    }
}

// A matrix by columns, or the transpose of one.
struct Matrix {
    const void* place;
    cudaDataType type;
    int leading;
    bool transposed;
    bool tf32 = false;

    bool holds(int rows, int columns) const { return leading >= (transposed ? columns : rows); }
    void require_inside(int rows, int columns, const char* what) const {
        size_t across = transposed ? rows : columns, down = transposed ? columns : rows;
        emulator_require_inside(place, ((across - 1) * leading + down) * bytes(type), what);
    }
    double operator()(size_t row, size_t column) const {
        double x = entry(place, transposed ? row * leading + column : column * leading + row, type);
        return tf32 ? rounded_to_tf32((float)x) : x;
    }
};

// Which types go together: the tables of cublasGemmEx and cublasLtMatmul, as far as it is asked for here.
bool supported(cudaDataType A, cudaDataType B, cudaDataType C, int compute) {
    bool narrow = A == CUDA_R_16F || A == CUDA_R_16BF;
    if (A != B) return false;
    if (compute == COMPUTE_64F) return A == CUDA_R_64F && C == CUDA_R_64F;
    if (compute == COMPUTE_32F_FAST_TF32) return A == CUDA_R_32F && C == CUDA_R_32F;
    return compute == COMPUTE_32F && (narrow ? C == CUDA_R_32F || C == A : A == CUDA_R_32F && C == CUDA_R_32F);
}

}  // namespace
