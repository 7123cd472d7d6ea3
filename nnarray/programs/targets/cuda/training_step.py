"""The CUDA kernels of a training step beside its programs: one gathers the batch, one advances the step counter.

The step counter lies in device memory, so that every step runs the same kernels with the same arguments.
"""

SOURCE = """
extern "C" __global__ void gather_columns(
    const {T}* V, long long down, long long across, long long rows, {T}* batch, long long columns,
    const long long* order, const long long* step
) {{
    const long long stride = (long long)gridDim.x * blockDim.x, first = *step * columns;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * columns; i += stride)
        batch[i] = V[i % rows * down + order[first + i / rows] * across];
}}
extern "C" __global__ void next_step(
    long long* step, const {T}* J, {T}* costs, double* numbers, const double* table, long long count
) {{
    const long long next = *step + 1;
    for (long long i = 0; i < count; i++) numbers[i] = table[next * count + i];
    costs[next - 1] = *J;
    *step = next;
}}
"""


def source(T: str) -> str:
    """The two kernels, for examples and costs of the C type T."""
    return SOURCE.format(T=T)
