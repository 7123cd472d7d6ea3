"""A launch as CUDA C, written from the calls that core's functions made.

Every kernel is a loop over entries, columns or partial sums in strides of the grid, so any number of blocks computes
it, also one thread alone. Numbers of rows stand in the text, those of columns are given: another m needs no other text.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from nnarray.backends.cuda.fusion import Fusion, Launch, matrix_shape
from nnarray.backends.recording import Scalar, Value

THREADS = 256
"""of a block"""

WARP = 32

WIDE = 2**31
"""Entries from which on an index takes 64 bits."""

OPERATIONS = {
    "abs": "fabs({})",
    "add": "({} + {})",
    "copyto": "T({})",
    "divide": "({} / {})",
    "equal": "({} == {})",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "floor": "floor({})",
    "greater": "({} > {})",
    "greater_equal": "({} >= {})",
    "less": "({} < {})",
    "less_equal": "({} <= {})",
    "log": "log({})",
    "log1p": "log1p({})",
    "logical_and": "({} && {})",
    "logical_not": "(!{})",
    "logical_or": "({} || {})",
    "maximum": "maximum({}, {})",
    "minimum": "minimum({}, {})",
    "multiply": "({} * {})",
    "negative": "(-{})",
    "not_equal": "({} != {})",
    "sign": "({0} != {0} ? {0} : T(({0} > 0) - ({0} < 0)))",
    "sqrt": "sqrt({})",
    "subtract": "({} - {})",
    "tanh": "tanh({})",
    "where": "({} ? {} : {})",
}

COMMON = """\
template <class V> __device__ V maximum(V a, V b) { return a >= b || a != a ? a : b; }  // NaN if either is
template <class V> __device__ V minimum(V a, V b) { return a <= b || a != a ? a : b; }
template <class V> __device__ V load(const V* p, long long i) { return p[i]; }
template <class V> __device__ void store(V* p, long long i, V x) { p[i] = x; }
template <class V> struct alignas(4 * sizeof(V)) Four { V x[4]; };  // neighbours, moved by one instruction or two
template <class V> __device__ Four<V> load_four(const V* p, long long i) { return *(const Four<V>*)(p + i); }
template <class V> __device__ void store_four(V* p, long long i, Four<V> x) { *(Four<V>*)(p + i) = x; }
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
template <class V> __device__ V max_of(V x, int lanes) {
    for (int d = lanes / 2; d > 0; d /= 2) x = maximum(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}
"""

DEVICE = """\
#define WARP 32
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


@dataclass(frozen=True)
class Pointer:
    """A parameter: the first entry of a value."""

    value: Value


@dataclass(frozen=True)
class Stride:
    """A parameter: from one row (axis 0) or column (axis 1) of a caller's array to the next, in entries."""

    value: Value
    axis: int


@dataclass(frozen=True)
class Number:
    """A parameter: a number computed on the host."""

    expression: str


@dataclass(frozen=True)
class Columns:
    """A parameter: how often a job goes over its rows (in the order "C", its columns)."""

    job: int


@dataclass(frozen=True)
class Stop:
    """A parameter: the first block that is beyond a job's."""

    job: int


Parameter = Pointer | Stride | Number | Columns | Stop


class Kernel:
    """The text of a launch, its parameters in their order, and how many blocks each job takes.

    `outside` are the values that lie in callers' arrays, whose strides are parameters; `narrow` is the type of the
    narrower float. With `numbers_on_device` a number is the address of a double that the kernel loads, else the double.
    """

    def __init__(
        self,
        launch: Launch,
        fusion: Fusion,
        outside: Container[Value],
        name: str,
        narrow: str = "",
        *,
        numbers_on_device: bool = False,
    ) -> None:
        self.jobs, self.fusion, self.outside, self.narrow, self.name = launch.jobs, fusion, outside, narrow, name
        self.numbers_on_device = numbers_on_device
        self.parameters: dict[Parameter, str] = {}
        self.written = {value for job in self.jobs for value in job.values}
        texts = [_JobText(self, i) for i in range(len(self.jobs))]
        self.blocks = [text.blocks for text in texts]
        body = "".join(text.source() for text in texts)
        self.wide = any(rows * columns >= WIDE for text in texts for rows, columns in text.shapes())
        declared = ", ".join(map(self._declaration, self.parameters))
        self.source = (
            f'extern "C" __global__ void {name}({declared}) {{\n'
            f"    typedef {'long long' if self.wide else 'unsigned'} Index;\n{body}}}\n"
        )

    def parameter(self, parameter: Parameter) -> str:
        """The name of a parameter, which is declared with this."""
        return self.parameters.setdefault(parameter, f"{type(parameter).__name__.lower()}{len(self.parameters)}")

    def _declaration(self, parameter: Parameter) -> str:
        name = self.parameters[parameter]
        if isinstance(parameter, Number):
            return f"const double* {name}" if self.numbers_on_device else f"double {name}"
        if not isinstance(parameter, Pointer):
            return f"long long {name}"
        const = "" if parameter.value in self.written else "const "
        return f"{const}{self.narrow if parameter.value in self.fusion.narrow else 'T'}* {name}"


class _JobText:
    """One job of a kernel, in the blocks from the job's before up to its own last."""

    def __init__(self, kernel: Kernel, number: int) -> None:
        self.kernel, self.number, self.job = kernel, number, kernel.jobs[number]
        self.fusion, self.values = kernel.fusion, kernel.jobs[number].values
        self.names = 0

    @property
    def blocks(self) -> int:
        """As many as give every entry, column or partial sum a thread, or a warp."""
        rows, columns = self.job.shape
        threads = {
            "entries": rows * columns // (4 if self._by_fours else 1),
            "columns": columns * (WARP if self._is_tall else 1),
            "sums": (self._parts if self.job.kind == "sums" else 0) * WARP,
        }
        return -(-threads[self.job.kind] // THREADS)

    def source(self) -> str:
        """The job under its condition."""
        first = self.kernel.parameter(Stop(self.number - 1)) if self.number else "0"
        is_last = self.number + 1 == len(self.kernel.jobs)
        stop = "gridDim.x" if is_last else self.kernel.parameter(Stop(self.number))
        lines = [
            f"    {'else ' if self.number else ''}{'' if is_last else f'if (blockIdx.x < {stop}) '}{{",
            f"        const Index first = (Index)(blockIdx.x - {first}) * blockDim.x + threadIdx.x;",
            f"        const Index threads = (Index)({stop} - {first}) * blockDim.x;",
        ]
        body = {"entries": self._entries, "columns": self._columns, "sums": self._sums}[self.job.kind]()
        return "\n".join([*lines, *("        " + line for line in body), "    }", ""])

    def shapes(self) -> Iterator[tuple[int, int]]:
        """Of all that the job goes over, loads and stores."""
        yield self.job.shape
        for value in self.values:
            yield matrix_shape(value)
            yield from map(matrix_shape, self.fusion.leaves(value, self.values))
            yield from (matrix_shape(self._operand(r)) for r in self.fusion.reductions(value, self.values))
        if self._is_tall:
            yield self.job.shape[1], WARP

    @property
    def _is_tall(self) -> bool:
        """Whether a column is worth a warp."""
        reductions = [r for value in self.values for r in self.fusion.reductions(value, self.values)]
        return any(matrix_shape(self._operand(reduction))[0] > WARP for reduction in reductions)

    @property
    def _parts(self) -> int:
        return matrix_shape(self.values[0])[0]

    def _operand(self, value: Value) -> Value:
        """What a reduction or a sum goes over."""
        return self.fusion.makers[value].bases[0]

    @property
    def _by_fours(self) -> bool:
        """Whether a thread takes four neighbours at once: all that it stores is dense and aligned, as in the arena."""
        return (
            self.job.kind == "entries"
            and self.job.order == "F"
            and self.job.shape[0] % 4 == 0
            and all(map(self._is_dense, self.values))
        )

    def _is_dense(self, value: Value) -> bool:
        """Whether entry i of the job is entry i of the value's memory, which begins at a multiple of 256 bytes."""
        return (
            value not in self.kernel.outside
            and value.name not in value.recording.constants
            and matrix_shape(value) == self.job.shape
            and self.fusion.order(value) == self.job.order
        )

    def _fours(self) -> list[str]:
        """The entries, four neighbours of a column at once; what is not dense is loaded one by one."""
        leaves = [leaf for value in self.values for leaf in self.fusion.leaves(value, self.values)]
        fours = {leaf: f"four{i}" for i, leaf in enumerate(dict.fromkeys(filter(self._is_dense, leaves)))}
        made = {value: f"made{i}" for i, value in enumerate(self.values)}
        pointers = {value: self.kernel.parameter(Pointer(value)) for value in (*fours, *made)}
        lines, known = list[str](), dict[Value, str]()
        for leaf, four in fours.items():
            known[leaf] = self._new_name()
            lines.append(f"const T {known[leaf]} = load({four}.x, k);")
        for value in self.values:
            self._compute(value, known, lines)
        lines += [f"store({four}.x, k, {known[value]});" for value, four in made.items()]
        types = {v: self.kernel.narrow if v in self.fusion.narrow else "T" for v in made}
        return [
            self._total(),
            "for (Index begin = first * 4; begin < total; begin += threads * 4) {",
            *(f"    const auto {four} = load_four({pointers[leaf]}, begin);" for leaf, four in fours.items()),
            *(f"    Four<{types[value]}> {four};" for value, four in made.items()),
            "    #pragma unroll",
            "    for (int k = 0; k < 4; k++) {",
            "        const Index i = begin + k;",
            *_indented(_indented([*self._place(), *lines])),
            "    }",
            *(f"    store_four({pointers[value]}, begin, {four});" for value, four in made.items()),
            "}",
        ]

    def _entries(self) -> list[str]:
        if self._by_fours:
            return self._fours()
        lines, known = list[str](), dict[Value, str]()
        for value in self.values:
            self._compute(value, known, lines)
        lines += [self._store(value, known[value]) for value in self.values]
        return [
            self._total(),
            "for (Index i = first; i < total; i += threads) {",
            *_indented([*self._place(), *lines]),
            "}",
        ]

    def _sums(self) -> list[str]:
        [partial] = self.values
        lines, known = list[str](), dict[Value, str]()
        V = self._operand(partial)
        self._compute(V, known, lines)
        return [
            self._total(),
            f"for (Index part = first / WARP; part < {self._parts}; part += threads / WARP) {{",
            "    const int lane = threadIdx.x % WARP;",
            "    T sum = 0;",
            f"    for (Index i = part * WARP + lane; i < total; i += {self._parts} * WARP) {{",
            *_indented(_indented([*self._place(), *lines, f"sum += {known[V]};"])),
            "    }",
            "    sum = sum_of(sum, WARP);",
            f"    if (lane == 0) store({self.kernel.parameter(Pointer(partial))}, part, sum);",
            "}",
        ]

    def _columns(self) -> list[str]:
        known = dict[Value, str]()
        lines = ["const int lane = threadIdx.x % lanes;"]
        for value in self.values:
            for reduction in self.fusion.reductions(value, self.values):
                if reduction not in known:
                    lines += self._reduction(reduction, known)
        for rows in sorted({matrix_shape(value)[0] for value in self.values}, reverse=True):
            lines += self._stored_rows(rows, known)
        columns = self.kernel.parameter(Columns(self.number))
        return [
            f"const int lanes = {'WARP' if self._is_tall else '1'};",
            f"for (Index c = first / lanes; c < {columns}; c += threads / lanes) {{",
            *_indented(lines),
            "}",
        ]

    def _reduction(self, value: Value, known: dict[Value, str]) -> list[str]:
        """A sum or maximum over rows; its name is known from then on."""
        operand, lines, inner = self._operand(value), list[str](), dict(known)
        self._compute(operand, inner, lines)
        is_sum = self.fusion.makers[value].function == "add.reduce"
        name = known[value] = self._new_name()
        step = f"{name} += {inner[operand]};" if is_sum else f"{name} = maximum({name}, {inner[operand]});"
        return [
            f"T {name} = {'0' if is_sum else 'LOWEST'};",
            f"for (Index r = lane; r < {matrix_shape(operand)[0]}; r += lanes) {{",
            *_indented([*lines, step]),
            "}",
            f"{name} = {'sum_of' if is_sum else 'max_of'}({name}, lanes);",
        ]

    def _stored_rows(self, rows: int, known: dict[Value, str]) -> list[str]:
        """The values of this many rows, computed and stored."""
        values, lines, inner = [v for v in self.values if matrix_shape(v)[0] == rows], list[str](), dict(known)
        for value in values:
            self._compute(value, inner, lines)
        lines += [self._store(value, inner[value]) for value in values]
        loop = f"for (Index r = lane; r < {rows}; r += lanes) {{" if rows > 1 else "if (lane == 0) {"
        return [loop, *_indented(lines), "}"]

    def _total(self) -> str:
        rows, columns = self.job.shape
        length = rows if self.job.order == "F" else columns
        return f"const Index total = {length} * {self.kernel.parameter(Columns(self.number))};"

    def _place(self) -> list[str]:
        """The row r and the column c of entry i."""
        rows, columns = self.job.shape
        inner, outer, length = ("r", "c", rows) if self.job.order == "F" else ("c", "r", columns)
        if length == 1:
            return [f"const Index {outer} = i;"]
        return [f"const Index {inner} = i % {length}, {outer} = i / {length};"]

    def _compute(self, value: Value, known: dict[Value, str], lines: list[str]) -> None:
        """Add lines that compute or load the value at (r, c), unless it is known."""
        if value in known:
            return
        if value.name in value.recording.constants:  # ones
            known[value] = "T(1)"
            return
        if self.fusion.is_loaded(value, self.values):
            text = f"load({self.kernel.parameter(Pointer(value))}, {self._index(value)})"
        else:
            call = self.fusion.makers[value]
            text = OPERATIONS[call.function].format(*(self._operand_text(o, known, lines) for o in call.operands))
        name = known[value] = self._new_name()
        lines.append(f"const {'bool' if value.dtype == bool else 'T'} {name} = {text};")

    def _operand_text(self, operand: object, known: dict[Value, str], lines: list[str]) -> str:
        if isinstance(operand, Value):
            self._compute(operand, known, lines)
            return known[operand]
        if isinstance(operand, Scalar):
            number = self.kernel.parameter(Number(operand.expression))
            return f"T({'*' if self.kernel.numbers_on_device else ''}{number})"
        return f"T({operand!r})"

    def _store(self, value: Value, name: str) -> str:
        return f"store({self.kernel.parameter(Pointer(value))}, {self._index(value)}, {name});"

    def _index(self, value: Value) -> str:
        """Where the entry (r, c) of a value lies; one of a single row or column is the same for all."""
        rows, columns = matrix_shape(value)
        order = self.fusion.order(value)
        if value in self.kernel.outside:
            row, column = (f"{axis} * {self.kernel.parameter(Stride(value, i))}" for i, axis in enumerate("rc"))
        elif self.job.kind != "columns" and (rows, columns) == self.job.shape and order == self.job.order:
            return "i"
        else:
            row, column = ("r", f"c * {rows}") if order == "F" else (f"r * {columns}", "c")
        return " + ".join(term for term, n in ((row, rows), (column, columns)) if n > 1) or "0"

    def _new_name(self) -> str:
        self.names += 1
        return f"x{self.names}"


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]
