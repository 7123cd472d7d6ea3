"""Pieces in stages, taken in turn by the threads that there are: one leads, others help for as long as it does.

A stage is begun when every piece of the last one is done. Counters only ever grow, over all rounds of a job: a helper
that slept through any number of rounds cannot take a piece that was taken. Waits spin, and yield to other threads soon.
"""

import ctypes
import platform
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled

NEXT, LIMIT, DONE, CLOSED = 0, 8, 16, 24
"""Words of a job, far apart in memory: the piece that is taken next, up to where pieces may be taken, how many are
done, and whether helpers are to leave."""

PIECES, STAGES, FUNCTIONS, ENDS, WORDS = 25, 26, 27, 28, 32
"""Words that stay: how many pieces and stages there are, and the addresses of their functions and of the stages' ends;
and how many words a job has."""

ON_X86, ON_ARM = "call void @llvm.x86.sse2.pause()", "call void @llvm.aarch64.hint(i32 1)"
PAUSES = {"x86_64": ON_X86, "amd64": ON_X86, "aarch64": ON_ARM, "arm64": ON_ARM}
"""Instructions that tell a processor that a thread waits."""

SPINS = 2000
"""Looks for a change before a wait yields, some microseconds."""


class Job:
    """Stages of pieces, each a function and the address of its table; a round runs all of them."""

    def __init__(self, stages: Sequence[Sequence[tuple[int, int]]]) -> None:
        self._pieces = np.array([piece for stage in stages for piece in stage], np.int64)
        self._ends = np.cumsum([len(stage) for stage in stages], dtype=np.int64)
        self._memory = np.zeros(WORDS + 8, np.int64)
        self._words = self._memory[-(self._memory.ctypes.data // 8) % 8 :][:WORDS]
        addresses = self._pieces.ctypes.data, self._ends.ctypes.data
        self._words[PIECES : PIECES + 4] = (len(self._pieces), len(self._ends), *addresses)
        self.address = self._words.ctypes.data
        self.most = max(map(len, stages))
        self._help = helper().run

    def open(self) -> None:
        """Before rounds that others may help with."""
        self._words[CLOSED] = 0

    def stop(self) -> None:
        """After them."""
        self._words[CLOSED] = 1

    def __call__(self) -> None:
        """Help: take pieces until the job is closed; other threads of Python run on meanwhile."""
        self._help(self.address, None, None)

    def round(self) -> None:
        """Run all stages."""
        leader().run(self.address, None, None)


@lru_cache(maxsize=1)
def leader() -> Compiled:
    """A round of a job: a stage of one piece is run at once, of another one as many pieces as helpers leave."""
    code = Code("double")
    count, stages = (code.parameter("%job", i, "i64") for i in (PIECES, STAGES))
    pieces, ends = (code.parameter("%job", i, "ptr") for i in (FUNCTIONS, ENDS))
    first, before = _load(code, NEXT), code.variable("i64")
    code.do(f"store i64 {first}, ptr {before}")
    with code.loop(stages, may_be_empty=True) as stage:
        start, stop = code.value(f"load i64, ptr {before}"), code.add(first, code.word(ends, stage))
        is_one = code.value(f"icmp eq i64 {code.add(start, '1')}, {stop}")
        with code.branch(is_one):
            _run(code, pieces, code.value(f"sub i64 {start}, {first}"))
            for word in (NEXT, DONE, LIMIT):
                _store(code, word, stop)
        with code.branch(code.value(f"xor i1 {is_one}, true")):
            _store(code, LIMIT, stop)
            with code.forever() as leave:
                _take(code, pieces, count, stop, otherwise=leave)
            with code.forever() as leave:
                leave(code.value(f"icmp eq i64 {_load(code, DONE)}, {stop}"))
                _pause(code)
        code.do(f"store i64 {stop}, ptr {before}")
    return compiled(code.function("%job", "%unused", "%neither"))


@lru_cache(maxsize=1)
def helper() -> Compiled:
    """What a helper does until the job is closed."""
    code = Code("double")
    count, pieces = code.parameter("%job", PIECES, "i64"), code.parameter("%job", FUNCTIONS, "ptr")
    with code.forever() as leave:
        leave(code.value(f"icmp ne i64 {_load(code, CLOSED)}, 0"))
        with code.forever() as idle:
            _take(code, pieces, count, _load(code, LIMIT), otherwise=idle)
        _pause(code)
    return compiled(code.function("%job", "%unused", "%neither"))


@lru_cache(maxsize=1)
def in_turn() -> Compiled:
    """Several pieces as one: how many, and then each function and its table."""
    code = Code("double")
    count, pieces = code.parameter("%table", 0, "i64"), code.at_entry("getelementptr i64, ptr %table, i64 1")
    with code.loop(count) as i:
        _run(code, pieces, i)
    return compiled(code.function("%table"))


def _take(code: Code, pieces: str, count: str, limit: str, *, otherwise: Callable[[str], None]) -> None:
    """Take the next piece below the limit and run it; leave the loop where there is none."""
    piece = _load(code, NEXT)
    otherwise(code.value(f"icmp sge i64 {piece}, {limit}"))
    following = code.add(piece, "1")
    pair = code.value(f"cmpxchg ptr {_word(code, NEXT)}, i64 {piece}, i64 {following} seq_cst seq_cst")
    with code.branch(code.value(f"extractvalue {{i64, i1}} {pair}, 1")):
        _run(code, pieces, code.value(f"srem i64 {piece}, {count}"))
        code.value(f"atomicrmw add ptr {_word(code, DONE)}, i64 1 seq_cst")


def _run(code: Code, pieces: str, i: str) -> None:
    """Call a piece's function with its table."""
    pair = code.value(f"getelementptr [2 x ptr], ptr {pieces}, i64 {i}")
    table = code.value(f"load ptr, ptr {code.value(f'getelementptr ptr, ptr {pair}, i64 1')}")
    function = code.value(f"load ptr, ptr {pair}")
    code.value(f"call i32 {function}(ptr {table})")


def _word(code: Code, word: int) -> str:
    return code.value(f"getelementptr i64, ptr %job, i64 {word}")


def _load(code: Code, word: int) -> str:
    return code.value(f"load atomic i64, ptr {_word(code, word)} seq_cst, align 8")


def _store(code: Code, word: int, x: str) -> None:
    code.do(f"store atomic i64 {x}, ptr {_word(code, word)} seq_cst, align 8")


def _pause(code: Code) -> None:
    """Let a moment pass; after a number of them, yield."""
    spins = code.variable("i64")
    code.initially(f"store i64 0, ptr {spins}")
    count = code.add(code.value(f"load i64, ptr {spins}"), "1")
    code.do(f"store i64 {count}, ptr {spins}")
    pause = PAUSES.get(platform.machine().lower())
    if pause is not None:
        code.do(pause)
    if (address := _yield_address()) != 0:
        with code.branch(code.value(f"icmp ugt i64 {count}, {SPINS}")):
            code.value(f"call i32 inttoptr (i64 {address} to ptr)()")


@lru_cache(maxsize=1)
def _yield_address() -> int:
    """Of what lets other threads run first; 0 where the system has no such function."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        return 0
