// cuBLASLt on the host: products with a bias and a rectifier at their end, on memory and streams of cuda.cpp.
//
// The numbers of attributes are those of NVIDIA's cublasLt.h. It refuses an attribute of another size, matrices that do
// not fit together, a bias of another type than the result, an algorithm that was found for another product or for
// memory that is better aligned, and a workspace that is too small. Where there are few columns, the algorithm that it
// finds adds two parts of each sum, of which one is in the workspace, so that another algorithm has other bits.
#include <cuda_runtime_api.h>

#include "matrices.h"

namespace {

enum Attribute { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8, BIAS_DATA_TYPE = 26 };
enum Epilogue { DEFAULT = 1, RELU = 2, BIAS = 4 };
enum Preferred { MAX_WORKSPACE = 1, MIN_ALIGNMENT_A = 5, MIN_ALIGNMENT_D = 8 };

const int FEW_COLUMNS = 256;
const size_t ALIGNMENT = 256, BIAS_ALIGNMENT = 16;

enum { USUAL, NOTHING_FOUND, LOSES_NAN } manner = USUAL;

struct Handle {
    int device;
};

struct Operation {
    int compute, scale, transposed_a = 0, transposed_b = 0;
    unsigned epilogue = DEFAULT;
    const void* bias = nullptr;
    int bias_type = -1;
};

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t leading;
};

struct Preference {
    uint64_t workspace = 0;
    unsigned alignments[4] = {256, 256, 256, 256};
};

struct Algorithm {
    uint64_t product, alignments[5], workspace, manner;
};
static_assert(sizeof(Algorithm) == 64);

struct Found {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

struct Shape {
    int m, n, k;
};

int current_device() {
    int device;
    return cudaGetDevice(&device), device;
}

template <class V>
int set(V& attribute, const void* value, size_t size) {
    return size == sizeof(V) ? (memcpy(&attribute, value, size), SUCCESS) : INVALID_VALUE;
}

// What an algorithm is found for, but where matrices lie.
uint64_t product_of(const Operation& operation, const Layout* const layouts[4]) {
    uint64_t found = 14695981039346656037u;
    auto add = [&](uint64_t x) { found = (found ^ x) * 1099511628211u; };
    for (int x : {operation.compute, operation.transposed_a, operation.transposed_b, operation.bias_type}) add(x);
    add(operation.epilogue);
    for (int i = 0; i < 4; i++)
        add(layouts[i]->type), add(layouts[i]->rows), add(layouts[i]->columns), add(layouts[i]->leading);
    return found;
}

int shape_of(const Operation& operation, const Layout* const layouts[4], Shape* shape) {
    auto [A, B, C, D] = std::tie(*layouts[0], *layouts[1], *layouts[2], *layouts[3]);
    uint64_t m = operation.transposed_a ? A.columns : A.rows, k = operation.transposed_a ? A.rows : A.columns;
    uint64_t n = operation.transposed_b ? B.rows : B.columns;
    bool fits = (operation.transposed_b ? B.columns : B.rows) == k && D.rows == m && D.columns == n;
    if (!fits || C.type != D.type || C.rows != m || C.columns != n || C.leading != D.leading) return INVALID_VALUE;
    *shape = {(int)m, (int)n, (int)k};
    bool is_known = operation.epilogue == DEFAULT || operation.epilogue == (RELU | BIAS);
    bool has_bias = operation.epilogue & BIAS;
    if (has_bias && (!operation.bias || (operation.bias_type != -1 && operation.bias_type != D.type)))
        return INVALID_VALUE;
    auto type = [](const Layout& layout) { return (cudaDataType)layout.type; };
    bool is_scaled_so = operation.scale == (operation.compute == COMPUTE_64F ? CUDA_R_64F : CUDA_R_32F);
    return is_known && is_scaled_so && supported(type(A), type(B), type(D), operation.compute) ? SUCCESS : NOT_SUPPORTED;
}

size_t size_of(const Layout& layout) {
    return ((layout.columns - 1) * layout.leading + layout.rows) * bytes((cudaDataType)layout.type);
}

bool overlap(const void* one, size_t size, const void* other, size_t other_size) {
    return (const char*)one < (const char*)other + other_size && (const char*)other < (const char*)one + size;
}

Matrix matrix(const void* place, const Layout& layout, int transposed, int compute) {
    return {place, (cudaDataType)layout.type, (int)layout.leading, (bool)transposed, compute == COMPUTE_32F_FAST_TF32};
}

}  // namespace

extern "C" {
void emulator_rectifies(int how) { manner = (decltype(manner))how; }

int cublasLtCreate(Handle** handle) {
    void* memory;  // of its own, on the device
    if (cudaMalloc(&memory, 1)) return INTERNAL_ERROR;
    cudaFree(memory);
    return *handle = new Handle{current_device()}, SUCCESS;
}
int cublasLtMatmulDescCreate(Operation** operation, int compute, int scale) {
    return *operation = new Operation{compute, scale}, SUCCESS;
}
int cublasLtMatmulDescDestroy(Operation* operation) { return delete operation, SUCCESS; }
int cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value, size_t size) {
    switch (attribute) {
        case TRANSA: return set(operation->transposed_a, value, size);
        case TRANSB: return set(operation->transposed_b, value, size);
        case EPILOGUE: return set(operation->epilogue, value, size);
        case BIAS_POINTER: return set(operation->bias, value, size);
        case BIAS_DATA_TYPE: return set(operation->bias_type, value, size);
        default: return INVALID_VALUE;
    }
}
int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (!rows || !columns || rows > INT32_MAX || columns > INT32_MAX || leading < (int64_t)rows) return INVALID_VALUE;
    return *layout = new Layout{type, rows, columns, leading}, SUCCESS;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, SUCCESS; }
int cublasLtMatmulPreferenceCreate(Preference** preference) { return *preference = new Preference, SUCCESS; }
int cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t size) {
    if (attribute == MAX_WORKSPACE) return set(preference->workspace, value, size);
    if (attribute < MIN_ALIGNMENT_A || attribute > MIN_ALIGNMENT_D) return INVALID_VALUE;
    return set(preference->alignments[attribute - MIN_ALIGNMENT_A], value, size);
}

int cublasLtMatmulAlgoGetHeuristic(Handle* handle, const Operation* operation, const Layout* A, const Layout* B,
                                   const Layout* C, const Layout* D, const Preference* preference, int asked,
                                   Found* found, int* count) {
    const Layout* layouts[] = {A, B, C, D};
    Shape shape;
    *count = 0;
    if (asked < 1 || handle->device != current_device()) return INVALID_VALUE;
    if (int status = shape_of(*operation, layouts, &shape)) return status;
    for (int i = 0; i < 4; i++)
        if (preference->alignments[i] < bytes((cudaDataType)layouts[i]->type)) return NOT_SUPPORTED;
    if (manner == NOTHING_FOUND) return NOT_SUPPORTED;
    uint64_t needed = shape.n < FEW_COLUMNS && shape.k > 1 ? (uint64_t)4 * shape.m * shape.n : 0;
    if (needed > preference->workspace) needed = 0;
    *found = {};
    Algorithm& algorithm = found->algorithm;
    algorithm.product = product_of(*operation, layouts);
    for (int i = 0; i < 4; i++) algorithm.alignments[i] = preference->alignments[i];
    size_t bias = (size_t)operation->bias;
    algorithm.alignments[4] = std::min<size_t>(bias & -bias, BIAS_ALIGNMENT);
    found->workspace = algorithm.workspace = needed;
    algorithm.manner = manner;
    return *count = 1, SUCCESS;
}

int cublasLtMatmul(Handle* handle, const Operation* operation, const void* alpha, const void* A, const Layout* layout_a,
                   const void* B, const Layout* layout_b, const void* beta, const void* C, const Layout* layout_c,
                   void* D, const Layout* layout_d, const Algorithm* algorithm, void* workspace, size_t size,
                   void* stream) {
    const Layout* layouts[] = {layout_a, layout_b, layout_c, layout_d};
    Shape shape;
    if (int status = shape_of(*operation, layouts, &shape)) return status;
    if (handle->device != current_device() || algorithm->product != product_of(*operation, layouts))
        return INVALID_VALUE;
    const void* places[] = {A, B, C, D, operation->bias};
    for (int i = 0; i < 5; i++)
        if (algorithm->alignments[i] && (size_t)places[i] % algorithm->alignments[i]) return INVALID_VALUE;
    uint64_t needed = algorithm->workspace;
    if (size < needed || (needed && (!workspace || (size_t)workspace % ALIGNMENT))) return INVALID_VALUE;
    float factors[] = {*(const float*)alpha, *(const float*)beta};
    if (operation->scale != CUDA_R_32F || (factors[1] && C != D)) return NOT_SUPPORTED;
    auto [m, n, k] = shape;
    cudaDataType type = (cudaDataType)layout_d->type;
    size_t bias_size = m * bytes(type), whole = size_of(*layout_d);
    emulator_require_inside(A, size_of(*layout_a), "a rectified product's A");
    emulator_require_inside(B, size_of(*layout_b), "a rectified product's B");
    emulator_require_inside(D, whole, "a rectified product's D");
    const void* bias = operation->epilogue & BIAS ? operation->bias : nullptr;
    if (bias) emulator_require_inside(bias, bias_size, "a rectified product's bias");
    if (needed) emulator_require_inside(workspace, needed, "a rectified product's workspace");
    if (overlap(D, whole, A, size_of(*layout_a)) || overlap(D, whole, B, size_of(*layout_b))) return INVALID_VALUE;
    if (bias && overlap(D, whole, bias, bias_size)) return INVALID_VALUE;
    Matrix a = matrix(A, *layout_a, operation->transposed_a, operation->compute);
    Matrix b = matrix(B, *layout_b, operation->transposed_b, operation->compute);
    int64_t leading = layout_d->leading;
    bool rectifies = operation->epilogue & RELU, loses_nan = algorithm->manner == LOSES_NAN;
    std::function<void()> work = [=] {
        std::vector<double> columns((size_t)k * n), row(k);
        for (int j = 0; j < n; j++)
            for (int l = 0; l < k; l++) columns[(size_t)j * k + l] = b(l, j);
        for (int i = 0; i < m; i++) {
            for (int l = 0; l < k; l++) row[l] = a(i, l);
            for (int j = 0; j < n; j++) {
                auto part = [&](int from, int to) {
                    double sum = 0;
                    for (int l = from; l < to; l++) sum += row[l] * columns[(size_t)j * k + l];
                    return sum;
                };
                float* held = (float*)workspace + ((size_t)j * m + i);
                if (needed) *held = (float)part(0, k / 2);
                double sum = needed ? *held + part(k / 2, k) : part(0, k);
                double x = factors[0] * sum + (factors[1] ? factors[1] * entry(D, j * leading + i, type) : 0);
                if (bias) x += entry(bias, i, type);
                if (rectifies) x = x > 0 || (x != x && !loses_nan) ? x : 0;
                set_entry(D, j * leading + i, type, x);
            }
        }
    };
    Places used = {A, B, D};
    if (bias) used.push_back(bias);
    if (needed) used.push_back(workspace);
    emulator_note("products");
    emulator_note("rectified");
    return emulator_enqueue(stream, &work, &used) ? INTERNAL_ERROR : SUCCESS;
}
}
