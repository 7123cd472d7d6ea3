"""Whatever instruction an interrupt comes at: BLAS's threads, the handler of SIGINT and NumPy's error state stay.

The same call then gives the same bits as before, earlier results hold theirs, and memory for the next run is nobody's.

By default some points of each call. With NNARRAY_INTERRUPTS=all (`nox -s interrupts`) all of them, and of a call that
has very many, the first and the last of each place in the code, up to some thousands.
"""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked_faults import Folder, forked_faults
from interrupted_calls import CALLS, FURTHER, SELDOM, Fitting, One, examples, training
from interrupting import BrokenError, State, break_off, faults, interrupt, places, points, run
from kept_results import Again, keep, memory_is_nobodys
from threadpoolctl import threadpool_limits

import nnarray as nn
from nnarray.backends import BLAS_THREADS, Block, Ended
from nnarray.engine import Ranks, dask_chunks
from nnarray.programs.targets.llvm import training_step


@pytest.fixture(autouse=True)
def no_other_test_s_blocks() -> None:
    """Some tests leave a lock or a block behind on purpose, for which threads would wait for ever."""
    BLAS_THREADS.unlock()
    vars(BLAS_THREADS).update(vars(type(BLAS_THREADS)()))


@pytest.fixture(autouse=True)
def options_of_others() -> Iterator[None]:
    """Other libraries' options, which they or a test change, are for the tests to come what they were."""
    sklearn = pytest.importorskip("sklearn")
    before = sklearn.get_config()
    yield
    sklearn.set_config(**before)
    if "dask.config" in sys.modules:
        sys.modules["dask.config"].config.pop("scheduler", None)


ALL, POINTS = os.environ.get("NNARRAY_INTERRUPTS") == "all", 40

VERY_MANY = 10_000

CALLS |= FURTHER | (SELDOM if ALL else {})


MOST = {
    **dict.fromkeys(FURTHER, 6),
    "compile": 2,
    "command line as one rank": 3,
    "command line": 10,
    "predict from the shell": 8,
    "evaluate from the shell": 5,
    "fit": 8,
    "fit by gradient descent": 12,
    "fit on whole batches": 12,
    "fit in part": 10,
    "fit a regressor in part": 15,
    "fit by L-BFGS": 15,
    "train on JAX": 12,
}
"""Of the points of slower calls, fewer are taken where not all are."""

MOST_PLACES = 3000
"""Of a call that has very many, where all are taken: spread over it."""


def sampled(call: Callable[[], bool], *, opcodes: bool, most: int = POINTS) -> Sequence[int]:
    """Points spread over the whole call, from 1 on, or all."""
    call()
    call()
    count = points(call, opcodes=opcodes)
    if ALL and count > VERY_MANY:
        chosen = places(call, opcodes=opcodes)
        return chosen[:: -(-len(chosen) // MOST_PLACES)]
    return range(1, count + 1, 1 if ALL else max(1, count // most))


BY_FORKS = {
    name
    for name in CALLS
    if name.startswith(
        ("fit", "score", "classes", "prob", "check", "train as", "train with batch", "train av", "train on m")
    )
    and "JAX" not in name
    and "checkpoint" not in name
}
"""Calls that need no other thread and write no file: where all points are taken, each is reached by a fork."""

WRITING_BY_FORKS = {
    name
    for name in CALLS
    if ("from the shell" in name and "machine" not in name) or name.startswith(("command line", "train on a table"))
}
"""The same of commands that write files, at a place of eight outside of nnarray: they go through very many."""

needs_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")


def checked_after(call: Callable[[], bool]) -> Callable[[], None]:
    """What is asked after a call that was broken off: that it can be made again."""
    again = Again(call)

    def check() -> None:
        if isinstance(call, Fitting):
            call.check()
        again.check()

    return check


def broken(name: str, act: Callable[[], None], folder: Path) -> list[str]:
    """What was wrong after a call that was broken off."""
    call = CALLS[name](folder)
    check = checked_after(call)
    if ALL and name in WRITING_BY_FORKS:
        call()
        files = Folder(folder)
        options: dict[str, Any] = {"before_each": files.remember, "after_each": files.put_back, "check": files.check}
        return forked_faults(call, act=act, outside=8, **options).wrong
    if ALL and name in BY_FORKS:
        call()
        return forked_faults(call, act=act, check=check).wrong
    chosen = sampled(call, opcodes=False, most=MOST.get(name, POINTS))
    return faults(call, act=act, chosen=chosen, opcodes=False, check=check)


class TestEveryPoint:
    @pytest.mark.parametrize("name", CALLS)
    def test_ctrl_c_changes_nothing_that_lasts(self, name, tmp_path, capfd) -> None:
        assert broken(name, interrupt, tmp_path) == []

    @pytest.mark.parametrize("name", CALLS)
    def test_nor_does_an_exception_that_cannot_be_put_off(self, name, tmp_path, capfd) -> None:
        assert broken(name, break_off, tmp_path) == []

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("train on torch", "autograd/grad_mode.py"),
            ("fit", "sklearn/_config.py"),
            ("fit in part", "sklearn/_config.py"),
            ("gradients of chunks", "contextlib.py"),
            ("gradients of chunks with targets on the host", "engine/dask_chunks.py"),
            ("gradients of chunks with targets on the host", "warnings.py"),
            ("predict chunks", "contextlib.py"),
        ],
    )
    @pytest.mark.parametrize("act", [interrupt, break_off])
    def test_while_another_library_changes_or_enters_what_is_to_be_left(self, name, file, act, tmp_path) -> None:
        call = CALLS[name](tmp_path)
        call()
        chosen = places(call, opcodes=False, of=file)
        assert len(chosen) > 5
        chosen = chosen[:: 1 if ALL or len(chosen) < 200 else 3]
        assert faults(call, act=act, chosen=chosen, opcodes=False, check=checked_after(call)) == []

    @pytest.mark.parametrize("name", ["train on the whole batch", "gradients in tiles", "cost of one small tile"])
    def test_between_any_two_instructions(self, name, tmp_path) -> None:
        call = CALLS[name](tmp_path)
        assert faults(call, act=break_off, chosen=sampled(call, opcodes=True), opcodes=True) == []

    def test_at_every_instruction_of_a_block(self) -> None:
        """All of them in any case: this is what every call stands on."""

        def call() -> None:
            block = Block(one=True)
            with Ended(block), block:
                assert set(BLAS_THREADS._blocks)

        for act in (interrupt, break_off):
            chosen = range(1, points(call, opcodes=True) + 1)
            assert len(chosen) > 100
            assert faults(lambda: call() or False, act=act, chosen=chosen, opcodes=True) == []

    def test_at_every_line_of_a_block_of_ranks(self) -> None:
        def call() -> bool:
            ranks = Ranks(One())
            try:
                with Ended(ranks), ranks:
                    ranks.sums(1.0)
            except KeyboardInterrupt:
                return True
            return False

        for act in (interrupt, break_off):
            chosen = range(1, points(call, opcodes=False) + 1)
            assert len(chosen) > 50
            assert faults(call, act=act, chosen=chosen, opcodes=False) == []

    def test_what_is_kept_beside_a_chunk_goes_with_it_and_no_interrupt_is_lost_then(self) -> None:
        def call() -> bool:
            X = np.zeros((2, 3))
            dask_chunks.spare_beside(X, 3, X.dtype).append(np.zeros(3))
            del X
            assert not dask_chunks._of_thread.kept
            return False

        for act in (interrupt, break_off):
            assert faults(call, act=act, chosen=range(1, points(call, opcodes=False) + 1), opcodes=False) == []

    def test_saving_leaves_the_old_file_or_the_new_one_and_nothing_beside_it(self, tmp_path) -> None:
        network, path = nn.Network((2, 3, 1)), tmp_path / "model.safetensors"
        old, new = network.init(1), network.init(2)
        nn.save(path, network, old)

        def check() -> None:
            assert os.listdir(tmp_path) == [path.name]
            theta = nn.load(path)[1].vector
            assert np.array_equal(theta, old.vector) or np.array_equal(theta, new.vector)

        def call() -> bool:
            nn.save(path, network, new)
            return False

        for act in (interrupt, break_off):
            chosen = sampled(call, opcodes=False)
            nn.save(path, network, old)
            assert faults(call, act=act, chosen=chosen, opcodes=False, check=check) == []

    @needs_forks
    @pytest.mark.parametrize("is_whole", [True, False])
    def test_forked_children_see_what_a_plain_block_leaves_behind(self, is_whole) -> None:
        done = run("import sys, test_interrupts; test_interrupts.forked(sys.argv[1] == 'True')", str(is_whole))
        assert (done.stdout, done.stderr) == (f"True {is_whole}\n", "")

    def test_the_harness_sees_what_a_plain_block_leaves_behind(self) -> None:
        def call() -> bool:
            with Block(one=True):  # without the outer half
                return False

        chosen = range(1, points(call, opcodes=False) + 1)
        try:
            assert faults(call, act=break_off, chosen=chosen, opcodes=False) != []
        finally:
            BLAS_THREADS.unlock()  # which a plain block may leave locked, too, and other threads would wait

    def test_the_harness_sees_a_file_that_stays_open(self) -> None:
        opened, train = list[int](), training(12)

        def call() -> bool:
            opened.append(os.dup(1))
            return train()

        try:
            assert any("descriptor" in found for found in faults(call, act=break_off, chosen=[20], opcodes=False))
        finally:
            for descriptor in opened:
                os.close(descriptor)


class TestAgain:
    """What is asked after a call that was broken off can be answered wrongly."""

    def test_other_bits_are_seen(self) -> None:
        numbers = itertools.count()
        again = Again(lambda: keep(float(next(numbers))))
        with pytest.raises(AssertionError, match="other bits"):
            again.check()

    def test_a_result_that_is_written_into_is_seen(self) -> None:
        made = list[np.ndarray]()

        def call() -> None:
            for V in made:
                V[...] += 1.0
            made.append(np.zeros(3))
            keep(made[-1])

        with pytest.raises(AssertionError, match="written into"):
            Again(call).check()

    @pytest.mark.parametrize("is_twice", [True, False])
    def test_memory_that_waits_twice_or_is_in_use_is_seen(self, is_twice) -> None:
        spare = training_step._spare
        spare.release()
        block = np.empty(16, np.uint8)
        spare.give_back(block)
        if is_twice:
            spare.give_back(block)
            del block
        try:
            with pytest.raises(AssertionError, match="in use, or waits twice"):
                memory_is_nobodys()
        finally:
            spare.release()


SIGNALLED = """
import os, random, signal, sys, threading, time
import numpy as np
import nnarray as nn
from interrupting import State
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 3000)).astype("float32")
Y = (X[:1] > 0).astype("float32")
network = nn.Network((20, 30, 1))
params = network.init(0)
calls = [
    lambda: nn.train(network, X, Y, epochs=3, progress=False, batch_size=500),
    lambda: nn.train(network, X[:, :50], Y[:, :50], epochs=20, progress=False),
    lambda: network.gradients(params, X, Y, workers=2),
]
expected = network.gradients(params, X, Y)[1].vector
for call in calls:
    call()
signal.signal(signal.SIGINT, signal.default_int_handler)
before, rounds, wrong = State.now(), 0, 0
until = time.time() + float(sys.argv[1])
delays = random.Random(0)
while time.time() < until or rounds <= 20:  # on a busy machine, rounds take seconds
    try:
        alarm = threading.Timer(delays.random() * 0.02, os.kill, (os.getpid(), signal.SIGINT))
        alarm.start()
        calls[rounds % 3]()
        alarm.join()
    except KeyboardInterrupt:
        pass
    alarm.join()
    rounds += 1
    wrong += State.now() != before
print(wrong, rounds > 20, np.array_equal(network.gradients(params, X, Y)[1].vector, expected))
"""


def forked(is_whole: bool) -> None:
    """In a process without other threads: print whether there were many forks, none left, and nothing wrong."""

    def call() -> bool:
        block = Block(one=True)
        with Ended(block) if is_whole else nullcontext(), block:
            return False

    with threadpool_limits(2, user_api="blas"):  # with one, there is nothing to leave behind
        found = forked_faults(call, act=break_off)
    print(found.forks > 30, found.wrong == [])


def test_real_signals_at_random_moments() -> None:
    done = run(SIGNALLED, "3")
    assert (done.stdout, done.stderr) == ("0 True True\n", "")


class TestOtherThreads:
    """The bits of a result do not depend on what other threads do."""

    @pytest.mark.parametrize("m", [40, 300, 700])
    def test_a_batch_of_one_tile_has_the_same_bits_beside_one_in_tiles(self, m) -> None:
        network = nn.Network((200, 300, 1))
        X, Y = examples(200, m)
        wide, wide_Y = examples(200, 6000)
        params = network.init(0)
        expected = network.gradients(params, X, Y)[1].vector
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                network.gradients(params, wide, wide_Y)

        other = threading.Thread(target=work, daemon=True)
        other.start()
        try:
            for _ in range(10):
                np.testing.assert_array_equal(network.gradients(params, X, Y)[1].vector, expected)
        finally:
            over.set()
            other.join(60)
            assert not other.is_alive()

    def test_blocks_of_two_kinds_take_turns(self) -> None:
        before, seen, rest = State.now(), list[bool](), list[set[bool]]()
        now = list[bool]()

        def work(one: bool) -> None:
            for _ in range(30):
                block = Block(one=one)
                with Ended(block), block:
                    now.append(one)
                    time.sleep(0.0005)
                    rest.append(set(now))
                    now.remove(one)
                seen.append(one)

        threads = [threading.Thread(target=work, args=(i % 2 == 0,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(seen) == 120
        assert all(len(kinds) == 1 for kinds in rest)
        assert State.now() == before

    @pytest.mark.parametrize(
        ("where", "step", "dropout"), [("engine", "cost_and_gradients", 0.1), ("steps", "launch", 0.0)]
    )
    def test_a_run_of_small_steps_lets_others_in_between_two_steps(self, where, step, dropout, monkeypatch) -> None:
        network, entered = nn.Network((4, 5, 1)), threading.Event()
        X, Y = examples(4, 64)

        def other() -> None:
            block = Block(one=False)
            with Ended(block), block:
                entered.set()

        def callback(_: nn.Epoch) -> bool:
            return entered.is_set()

        thread = threading.Thread(target=other, daemon=True)
        started = itertools.count()
        owner = {"engine": nn.engine, "steps": training_step.TrainingSteps}[where]
        real = getattr(owner, step)

        def begun(*given: Any, **options: Any) -> Any:
            if next(started) == 3:
                thread.start()
                time.sleep(0.05)
            return real(*given, **options)

        monkeypatch.setattr(owner, step, begun)
        nn.train(network, X, Y, epochs=9, batch_size=4, dropout=dropout)
        thread.join(10)
        assert entered.is_set()

    def test_a_callback_may_wait_for_a_thread_that_computes(self) -> None:
        network, large = nn.Network((4, 5, 1)), nn.Network((300, 400, 1))
        X, Y = examples(4, 64)
        wide = examples(300, 200)
        params = large.init(0)

        def callback(_: nn.Epoch) -> None:
            thread = threading.Thread(target=large.gradients, args=(params, *wide), daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive()

        assert nn.train(network, X, Y, epochs=2, callback=callback).stopped == "epochs"

    @pytest.mark.parametrize(("sizes", "m"), [((64, 100, 10), 1797), ((30, 20, 4), 90), ((50, 60, 1), 5000)])
    def test_any_number_of_threads_gives_the_same_bits(self, sizes, m) -> None:
        code = (
            "import sys, numpy as np, nnarray as nn, zlib\n"
            f"network = nn.Network({sizes}); X = np.random.default_rng(0).normal(size=({sizes[0]}, {m}))\n"
            f"Y = (np.random.default_rng(1).random(({sizes[-1]}, {m})) < 0.5)\n"
            "params = network.init(0)\n"
            "one = [network.gradients(params, X, Y, workers=w)[1].vector.tobytes() for w in (1, 2, 3)]\n"
            "assert len(set(one)) == 1; print(zlib.crc32(one[0]))"
        )
        found = {run(code, NNARRAY_NUM_THREADS=threads).stdout for threads in ("1", "2", "4")}
        assert len(found) == 1
        assert found.pop().strip().isdecimal()


NO_THREADS = """
import gc, sys, threading, time, weakref
import numpy as np
import nnarray as nn
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 30_000)).astype("float32")
Y = (X[:1] > 0).astype("float32")
network = nn.Network((20, 30, 1))
params = network.init(0)
expected = network.gradients(params, X, Y, workers=1)[1].vector
if sys.argv[1] == "later":
    network.gradients(params, X, Y, workers=2)
threading.stack_size(2**46)  # more address space than there is
try:
    threading.Thread(target=print).start()
    print("it started")
except RuntimeError:
    pass
for _ in range(3):
    for call in (lambda X: network.gradients(params, X, Y, workers=6)[1].vector,
                 lambda X: nn.train(network, X, Y, params=params, epochs=1, workers=6) and expected):
        mine = X.copy()
        assert np.array_equal(call(mine), expected)
        gone = weakref.ref(mine)
        del mine
        gc.collect()
        assert gone() is None
threading.stack_size(0)
assert np.array_equal(network.gradients(params, X, Y, workers=3)[1].vector, expected)
until = time.monotonic() + 20  # a thread that was started has its name when its turn comes
while not (found := [thread for thread in threading.enumerate() if thread.name.startswith("nnarray")]):
    assert time.monotonic() < until
    time.sleep(0.01)
print(True)
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_where_no_thread_is_to_be_had_the_caller_computes_alone(when) -> None:
    done = run(NO_THREADS, when)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_handler_that_a_callback_installs_stays() -> None:
    def mine(*_: Any) -> None:
        raise BrokenError

    before = signal.getsignal(signal.SIGINT)
    try:
        training(20, callback=lambda _: signal.signal(signal.SIGINT, mine))()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
