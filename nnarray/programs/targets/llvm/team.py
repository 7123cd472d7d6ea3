"""Pieces in stages, taken in turn by the threads that there are: one leads, others help for as long as it does.

A piece is begun when every piece of the stages that it waits for is done. Pieces are taken in their order, so what one
waits for is done or under way. Counters only ever grow, over all rounds of a job: a helper that slept through any
number of rounds cannot take a piece that was taken. Waits spin, and yield to other threads soon.
"""

import ctypes
import platform
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nnarray.programs.targets.llvm.blocked import ROOM
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.compiler import Compiled, compiled
from nnarray.programs.targets.llvm.vectors import LINE

APART = LINE // 8
"""Words that lie so far apart, a line of the cache, do not slow each other down."""

NEXT, LIMIT, CLOSED, CAME = range(0, 4 * APART, APART)
"""Words of a job, far apart in memory: the piece that is taken next, up to where pieces may be taken, whether helpers
are to leave, and how many threads came."""

PIECES, STAGES, OF_PIECES, OF_STAGES, DONE, MOST, ROOMS, WORDS = range(3 * APART + 1, 4 * APART + 1)
"""Words that stay: how many pieces and stages there are; the addresses of the pieces, each a function, its table and
the number of its stage, of the stages, each how many pieces it has and how many stages it waits for, and of how many
pieces of each are done; how many threads may come, and where the first one's room is."""

ON_X86, ON_ARM = "call void @llvm.x86.sse2.pause()", "call void @llvm.aarch64.hint(i32 1)"
PAUSES = {"x86_64": ON_X86, "amd64": ON_X86, "aarch64": ON_ARM, "arm64": ON_ARM}
"""Instructions that tell a processor that a thread waits."""

SPINS = 2000
"""Looks for a change before a wait yields, some microseconds."""


class Stage(NamedTuple):
    """Pieces, each a function and the address of its table, that wait for all of so many stages before theirs."""

    pieces: Sequence[tuple[int, int]]
    waits: int


class Job:
    """Stages of pieces; a round runs all of them, by so many `threads` at most.

    Each packs in a room of its own; these begin at the address `rooms`, one after the other.
    """

    def __init__(self, stages: Sequence[Stage], rooms: int, threads: int) -> None:
        self._pieces = np.array([[*pair, i] for i, stage in enumerate(stages) for pair in stage.pieces], np.int64)
        self._stages = np.array([[len(pieces), waits] for pieces, waits in stages], np.int64)
        self._done = np.zeros(APART * len(stages), np.int64)
        self._memory = np.zeros(WORDS + APART, np.int64)
        self._words = self._memory[-(self._memory.ctypes.data // 8) % APART :][:WORDS]
        addresses = [x.ctypes.data for x in (self._pieces, self._stages, self._done)]
        at_once = [sum([len(s.pieces) for s in stages[waits : i + 1]]) for i, (_, waits) in enumerate(stages)]
        self.most = min(max(at_once), threads)
        self._words[PIECES:WORDS] = (len(self._pieces), len(stages), *addresses, self.most, rooms)
        self._words[CAME] = 1  # the leader
        self.address = self._words.ctypes.data
        self._help = helper().run

    def open(self) -> None:
        """Before rounds that others may help with."""
        self._words[CAME], self._words[CLOSED] = 1, 0

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
    """A round of a job: alone, all pieces in turn, else as many as helpers leave."""
    code = Code("double")
    team = Team(code)
    is_alone = code.value(f"icmp eq i64 {team.most}, 1")
    with code.branch(is_alone), code.loop(team.count) as i:
        team.run(i, team.rooms)
    with code.branch(code.value(f"xor i1 {is_alone}, true")):
        stop = code.add(team.load(NEXT), team.count)
        team.store(LIMIT, stop)
        with code.forever() as leave:
            team.take(stop, team.rooms, otherwise=leave)
        last = code.value(f"sub i64 {stop}, 1")
        team.wait(team.stages, last)
    return compiled(code.function("%job", "%unused", "%neither"))


@lru_cache(maxsize=1)
def helper() -> Compiled:
    """What a helper does until the job is closed; one for whom there is no room leaves."""
    code = Code("double")
    team = Team(code)
    number = code.value(f"atomicrmw add ptr {team.word(CAME)}, i64 1 seq_cst")
    code.require(code.value(f"icmp slt i64 {number}, {team.most}"))
    room = code.value(f"getelementptr i8, ptr {team.rooms}, i64 {code.times(number, str(ROOM))}")
    with code.forever() as leave:
        leave(code.value(f"icmp ne i64 {team.load(CLOSED)}, 0"))
        with code.forever() as idle:
            team.take(team.load(LIMIT), room, otherwise=idle)
        _pause(code)
    return compiled(code.function("%job", "%unused", "%neither"))


class Team:
    """Code of one who works at %job."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self.count, self.stages, self.most = (code.parameter("%job", i, "i64") for i in (PIECES, STAGES, MOST))
        self._pieces, self._stages, self._done, self.rooms = (
            code.parameter("%job", i, "ptr") for i in (OF_PIECES, OF_STAGES, DONE, ROOMS)
        )
        self._known, self._round = code.variable("i64"), code.variable("i64")
        for variable in (self._known, self._round):
            code.initially(f"store i64 0, ptr {variable}")

    def take(self, limit: str, room: str, *, otherwise: Callable[[str], None]) -> None:
        """Take the next piece below the limit and run it, when it may begin; leave the loop where there is none."""
        code, piece = self._code, self.load(NEXT)
        otherwise(code.value(f"icmp sge i64 {piece}, {limit}"))
        following = code.add(piece, "1")
        pair = code.value(f"cmpxchg ptr {self.word(NEXT)}, i64 {piece}, i64 {following} seq_cst seq_cst")
        with code.branch(code.value(f"extractvalue {{i64, i1}} {pair}, 1")):
            i = code.value(f"srem i64 {piece}, {self.count}")
            stage = code.word(self._pieces, code.add(code.times(i, "3"), "2"))
            self.wait(self._of_stage(stage, 1), piece)
            self.run(i, room)
            code.value(f"atomicrmw add ptr {self._done_of(stage)}, i64 1 seq_cst")

    def run(self, i: str, room: str) -> None:
        """Call a piece's function with its table, and room."""
        _run(self._code, self._pieces, self._code.times(i, "3"), room)

    def wait(self, stages: str, piece: str) -> None:
        """Wait until so many stages are done in the round of a piece; what is known to be done is not asked again."""
        code = self._code
        rounds = code.add(code.value(f"sdiv i64 {piece}, {self.count}"), "1")
        with code.branch(code.value(f"icmp ne i64 {rounds}, {code.value(f'load i64, ptr {self._round}')}")):
            code.do(f"store i64 {rounds}, ptr {self._round}")
            code.do(f"store i64 0, ptr {self._known}")
        with code.forever() as none_is_left:
            stage = code.value(f"load i64, ptr {self._known}")
            none_is_left(code.value(f"icmp sge i64 {stage}, {stages}"))
            wanted = code.times(rounds, self._of_stage(stage, 0))
            with code.forever() as leave:
                done = code.value(f"load atomic i64, ptr {self._done_of(stage)} seq_cst, align 8")
                leave(code.value(f"icmp sge i64 {done}, {wanted}"))
                _pause(code)
            code.do(f"store i64 {code.add(stage, '1')}, ptr {self._known}")

    def word(self, word: int) -> str:
        """The address of a word of the job."""
        return self._code.value(f"getelementptr i64, ptr %job, i64 {word}")

    def load(self, word: int) -> str:
        """What others may change meanwhile."""
        return self._code.value(f"load atomic i64, ptr {self.word(word)} seq_cst, align 8")

    def store(self, word: int, x: str) -> None:
        """Store it for others."""
        self._code.do(f"store atomic i64 {x}, ptr {self.word(word)} seq_cst, align 8")

    def _of_stage(self, stage: str, what: int) -> str:
        return self._code.word(self._stages, self._code.add(self._code.times(stage, "2"), str(what)))

    def _done_of(self, stage: str) -> str:
        return self._code.value(f"getelementptr i64, ptr {self._done}, i64 {self._code.times(stage, str(APART))}")


@lru_cache(maxsize=1)
def in_turn() -> Compiled:
    """Several pieces as one: how many, and then each function and its table."""
    code = Code("double")
    count, pieces = code.parameter("%table", 0, "i64"), code.at_entry("getelementptr i64, ptr %table, i64 1")
    with code.loop(count) as i:
        _run(code, pieces, code.times(i, "2"), "%room")
    return compiled(code.function("%table", "%room"))


def _run(code: Code, calls: str, word: str, room: str) -> None:
    """Call the function at this word of `calls` with the table behind it, and room."""
    function, table = code.word(calls, word, "ptr"), code.word(calls, code.add(word, "1"), "ptr")
    code.value(f"call i32 {function}(ptr {table}, ptr {room})")


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
