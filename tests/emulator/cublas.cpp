// cuBLAS on the host: the products that CuPy and nnarray ask for, on memory and streams of cuda.cpp.
//
// It refuses what cuBLAS refuses, and what reaches beyond an allocation.
#include "matrices.h"

namespace {

struct Handle {
    void* stream;
    int math, pointer_mode;
    const void* workspace;
};

// While its stream is captured, a handle without a workspace would allocate one.
Status enqueue(Handle* handle, std::function<void()> work, Places places) {
    if (emulator_is_captured(handle->stream)) {
        if (!handle->workspace) return emulator_refuse(), INTERNAL_ERROR;
        places.push_back(handle->workspace);
    }
    emulator_note("products");
    return emulator_enqueue(handle->stream, &work, &places) ? INTERNAL_ERROR : SUCCESS;
}

// C = alpha A B + beta C of m × k and k × n.
Status multiply(Handle* handle, int m, int n, int k, double alpha, Matrix A, Matrix B, double beta, Matrix C) {
    if (m < 1 || n < 1 || k < 1 || !A.holds(m, k) || !B.holds(k, n) || !C.holds(m, n)) return INVALID_VALUE;
    A.require_inside(m, k, "a product's A");
    B.require_inside(k, n, "a product's B");
    C.require_inside(m, n, "a product's C");
    return enqueue(handle, [=] {
        std::vector<double> row(k), columns((size_t)k * n);
        for (int j = 0; j < n; j++)
            for (int l = 0; l < k; l++) columns[(size_t)j * k + l] = B(l, j);
        for (int i = 0; i < m; i++) {
            for (int l = 0; l < k; l++) row[l] = A(i, l);
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int l = 0; l < k; l++) sum += row[l] * columns[(size_t)j * k + l];
                size_t at = (size_t)j * C.leading + i;
                set_entry((void*)C.place, at, C.type, alpha * sum + (beta ? beta * entry(C.place, at, C.type) : 0));
            }
        }
    }, {A.place, B.place, C.place});
}

template <class T>
const cudaDataType TYPE = sizeof(T) == 8 ? CUDA_R_64F : CUDA_R_32F;

template <class T>
int dot(Handle* handle, int n, const T* x, int step_x, const T* y, int step_y, T* result) {
    emulator_require_inside(x, ((size_t)(n - 1) * step_x + 1) * sizeof(T), "a dot product's x");
    emulator_require_inside(y, ((size_t)(n - 1) * step_y + 1) * sizeof(T), "a dot product's y");
    return enqueue(handle, [=] {
        double sum = 0;
        for (size_t i = 0; i < (size_t)n; i++) sum += (double)x[i * step_x] * y[i * step_y];
        *result = (T)sum;
    }, {x, y, result});
}

}  // namespace

extern "C" {
int cublasCreate_v2(Handle** handle) { return *handle = new Handle{}, SUCCESS; }
int cublasDestroy_v2(Handle* handle) { return delete handle, SUCCESS; }
int cublasGetVersion_v2(Handle*, int* version) { return *version = 130000, SUCCESS; }
int cublasSetStream_v2(Handle* handle, void* stream) {
    return handle->stream = stream, handle->workspace = nullptr, SUCCESS;  // cuBLAS takes its own again
}
int cublasSetWorkspace_v2(Handle* handle, void* place, size_t size) {
    return emulator_require_inside(place, size, "a workspace"), handle->workspace = place, SUCCESS;
}
int cublasGetStream_v2(Handle* handle, void** stream) { return *stream = handle->stream, SUCCESS; }
int cublasSetMathMode(Handle* handle, int mode) { return handle->math = mode, SUCCESS; }
int cublasGetMathMode(Handle* handle, int* mode) { return *mode = handle->math, SUCCESS; }
int cublasSetPointerMode_v2(Handle* handle, int mode) { return handle->pointer_mode = mode, SUCCESS; }
int cublasGetPointerMode_v2(Handle* handle, int* mode) { return *mode = handle->pointer_mode, SUCCESS; }

int cublasGemmEx(Handle* handle, int transposed_a, int transposed_b, int m, int n, int k, const void* alpha,
                 const void* A, cudaDataType type_a, int leading_a, const void* B, cudaDataType type_b, int leading_b,
                 const void* beta, void* C, cudaDataType type_c, int leading_c, int compute, int) {
    if (handle->pointer_mode) return NOT_SUPPORTED;
    if (!supported(type_a, type_b, type_c, compute)) return NOT_SUPPORTED;
    cudaDataType factors = compute == COMPUTE_64F ? CUDA_R_64F : CUDA_R_32F;
    bool tf32 = compute == COMPUTE_32F_FAST_TF32;
    return multiply(handle, m, n, k, entry(alpha, 0, factors), {A, type_a, leading_a, (bool)transposed_a, tf32},
                    {B, type_b, leading_b, (bool)transposed_b, tf32}, entry(beta, 0, factors),
                    {C, type_c, leading_c, false});
}

#define GEMM(name, T)                                                                                              \
    int name(Handle* handle, int transposed_a, int transposed_b, int m, int n, int k, const T* alpha, const T* A,  \
             int leading_a, const T* B, int leading_b, const T* beta, T* C, int leading_c) {                       \
        return multiply(handle, m, n, k, *alpha, {A, TYPE<T>, leading_a, (bool)transposed_a},                      \
                        {B, TYPE<T>, leading_b, (bool)transposed_b}, *beta, {C, TYPE<T>, leading_c, false});       \
    }
GEMM(cublasSgemm_v2, float)
GEMM(cublasDgemm_v2, double)

int cublasSdot_v2(Handle* handle, int n, const float* x, int step_x, const float* y, int step_y, float* result) {
    return dot(handle, n, x, step_x, y, step_y, result);
}
int cublasDdot_v2(Handle* handle, int n, const double* x, int step_x, const double* y, int step_y, double* result) {
    return dot(handle, n, x, step_x, y, step_y, result);
}
}
