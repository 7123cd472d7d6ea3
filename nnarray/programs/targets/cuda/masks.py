"""The CUDA kernel that draws masks of inverted dropout, each thread from its own places in one stream of PCG64.

PCG64 is a linear congruential generator of 128 bits (M. O'Neill, "PCG", 2014, XSL-RR 128/64), s ← a s + c. So is each
power of two of its steps, with other a and c: a table of these lets any thread jump to any place of the stream.
"""

MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
"""a of one step"""

JUMPS = 64
"""of 1, 2, 4, … steps"""

_MASK = 2**128 - 1

LAYOUT = "qqqqddqqq"
"""Of the struct that the kernel is given, in the letters of Python's `struct`."""

SOURCE = """
typedef unsigned long long word;
struct State {{ word high, low; }};
__device__ State jumped(State s, const word* jump) {{  // jump: a and c, the high words before the low ones
    const word a_high = jump[0], a_low = jump[1], low = s.low * a_low, sum = low + jump[3];
    return {{__umul64hi(s.low, a_low) + s.high * a_low + s.low * a_high + jump[2] + (sum < low), sum}};
}}
__device__ {T} kept_or_dropped(unsigned bits, float rate, {T} kept) {{
    return (bits >> 8) * (1.0f / 16777216.0f) >= rate ? kept : 0;
}}
struct Given {{
    {T}* D; long long count; const word* stream; long long first; double rate, kept;
    const long long *position, *step; long long words_of_a_step;
}};
extern "C" __global__ void draw_mask(const Given given) {{
    {T}* D = given.D;
    const long long count = given.count;
    const word* stream = given.stream;
    long long first = given.first;
    const float rate = given.rate;
    const {T} kept = given.kept;
    const word *jumps = stream + 2, threads = (word)gridDim.x * blockDim.x;
    const word i = (word)blockIdx.x * blockDim.x + threadIdx.x;
    if (given.position) first += 2 * (*given.position + *given.step * given.words_of_a_step);  // in a captured step
    const long long odd = first % 2, words = (count + odd + 1) / 2;
    if ((long long)i >= words) return;
    State s = {{stream[0], stream[1]}};
    const word before = first / 2 + i + 1;
    for (int k = 0; before >> k; k++) if (before >> k & 1) s = jumped(s, jumps + 4 * k);
    int all = 0;
    while ((word)1 << all < threads) all++;
    for (long long w = i; w < words; w += threads) {{
        const word x = s.high ^ s.low, turn = s.high >> 58, bits = x >> turn | x << (-turn & 63);
        const long long entry = 2 * w - odd;
        if (entry >= 0) D[entry] = kept_or_dropped((unsigned)bits, rate, kept);
        if (entry + 1 < count) D[entry + 1] = kept_or_dropped((unsigned)(bits >> 32), rate, kept);
        s = jumped(s, jumps + 4 * all);
    }}
}}
"""


def source(T: str) -> str:
    """The kernel for masks of the C type T; it is run by a power of two of threads."""
    return SOURCE.format(T=T)


def stream_table(state: int, increment: int) -> list[int]:
    """What the kernel reads of a stream, as words of 64 bits: its state, then a and c of every jump."""
    numbers, a, c = [state], MULTIPLIER, increment
    for _ in range(JUMPS):
        numbers += [a, c]
        a, c = a * a & _MASK, (a + 1) * c & _MASK
    return [half for number in numbers for half in divmod(number, 2**64)]


def floats(state: int, increment: int, count: int) -> list[float]:
    """The first float32 numbers of the stream, two of each word: what the kernel compares with the rate."""
    found: list[float] = []
    while len(found) < count:
        state = (state * MULTIPLIER + increment) & _MASK
        x, turn = (state >> 64 ^ state) & 2**64 - 1, state >> 122
        bits = (x >> turn | x << (64 - turn)) & 2**64 - 1
        found += [(half >> 8) / 2**24 for half in (bits & 2**32 - 1, bits >> 32)]
    return found[:count]
