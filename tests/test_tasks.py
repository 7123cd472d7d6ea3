"""Work in other threads: made once, waited for, and given to as many threads as there is work for."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import nnarray as nn
from nnarray.engine import pool as pool_of
from nnarray.engine.pool import Pool
from nnarray.programs import tasks
from nnarray.programs.tasks import Task, in_another_thread


def no_thread(*_: object) -> int:
    raise RuntimeError("can't start new thread")


def asked(pool: Pool, task: Task) -> Task:
    assert pool.ask(task)
    return task


class TestTask:
    def test_one_that_its_caller_ends_first_is_never_made(self) -> None:
        task = Task(lambda: pytest.fail("it was made"))
        task.end()
        task()
        task.end()
        assert task.error is None

    def test_the_end_waits_for_what_has_begun(self) -> None:
        began, seen = threading.Event(), list[str]()

        def work() -> None:
            began.set()
            time.sleep(0.05)
            seen.append("done")

        task = asked(Pool(1, lambda: None), Task(work))
        began.wait()
        task.end()
        task.end()
        assert seen == ["done"]


class TestPool:
    def test_one_task_after_the_other_needs_one_thread(self) -> None:
        pool, names = Pool(9, lambda: None), set[str]()
        for _ in range(200):
            task = asked(pool, Task(lambda: names.add(threading.current_thread().name)))
            task.wait()
            pool.forget(task)
        assert names == {"nnarray_0"}

    def test_tasks_at_a_time_have_a_thread_each_up_to_the_most(self) -> None:
        pool, over, names = Pool(3, lambda: None), threading.Event(), set[str]()

        def work() -> None:
            names.add(threading.current_thread().name)
            over.wait()

        given = [asked(pool, Task(work)) for _ in range(5)]
        while len(names) < 3:
            time.sleep(0.001)
        over.set()
        for task in given:
            task.wait()
        assert len(names) == 3

    def test_each_thread_begins_with_a_call(self) -> None:
        seen = list[int]()
        task = asked(Pool(1, lambda: seen.append(threading.get_ident())), Task(threading.get_ident))
        task.wait()
        assert seen == [task.result]

    def test_another_is_started_for_one_that_died(self, monkeypatch) -> None:
        began, told = list[int](), list[object]()
        monkeypatch.setattr(sys, "unraisablehook", told.append)

        def begin() -> None:
            began.append(len(began))
            if began == [0]:
                raise MemoryError

        pool = Pool(1, begin)
        first = asked(pool, Task(lambda: None))
        while not told:
            time.sleep(0.001)
        first.end()
        pool.forget(first)
        task = asked(pool, Task(lambda: "made"))
        task.wait(20)
        assert (task.result, began) == ("made", [0, 1])

    def test_one_that_never_begins_counts_for_a_while_only(self, monkeypatch) -> None:
        pool = Pool(1, lambda: None)
        with monkeypatch.context() as patch:
            patch.setattr(tasks, "start_new_thread", lambda *_: 1)
            patch.setattr(tasks, "STARTING", 0.0)
            lost = asked(pool, Task(lambda: None))
        lost.end()
        pool.forget(lost)
        task = asked(pool, Task(lambda: "made"))
        task.wait(20)
        assert task.result == "made"

    def test_where_no_thread_is_to_be_had_nothing_is_kept(self, monkeypatch) -> None:
        monkeypatch.setattr(pool_of, "start_new_thread", no_thread)
        pool, task = Pool(2, lambda: None), Task(print)
        assert not pool.ask(task)
        assert pool._tasks.empty()
        assert pool._asked == {}


class TestAnotherThread:
    def test_it_gives_what_the_call_gives_or_raises(self) -> None:
        assert in_another_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            in_another_thread(lambda: 1 / 0)

    def test_it_is_this_one_where_no_other_is_to_be_had(self, monkeypatch) -> None:
        monkeypatch.setattr(tasks, "start_new_thread", no_thread)
        assert in_another_thread(threading.get_ident) == threading.get_ident()

    def test_it_is_this_one_where_the_other_never_begins_and_none_where_that_begins_late(self, monkeypatch) -> None:
        started, made = list[Task](), list[int]()
        monkeypatch.setattr(tasks, "start_new_thread", lambda task, _: started.append(task))
        monkeypatch.setattr(tasks, "STARTING", 0.01)
        in_another_thread(lambda: made.append(threading.get_ident()))
        assert made == [threading.get_ident()]
        started[0]()
        assert len(made) == 1

    def test_one_that_takes_longer_than_a_thread_has_to_begin_is_waited_for(self, monkeypatch) -> None:
        monkeypatch.setattr(tasks, "STARTING", 0.05)
        began = list[int]()

        def work() -> str:
            began.append(threading.get_ident())
            time.sleep(0.3)
            return "done"

        assert in_another_thread(work) == "done"
        assert len(began) == 1


FORKING = """
import os, sys, threading, time
import numpy as np
import nnarray as nn
from nnarray.programs.targets.llvm import compiler
over = threading.Event()
SOURCE = "define i32 @run(ptr %table, ptr %a, ptr %b) { ret i32 0 }"
def compile():
    while not over.is_set():
        compiler._compiled([SOURCE.replace("run", compiler.FUNCTION)])
def train(i):
    X = np.random.default_rng(0).normal(size=(6, 30 + i)).astype("float32")
    nn.train(nn.Network((6, 4, 1)), X, (X[:1] > 0) * 1.0, epochs=3, batch_size=7, workers=3)
train(-1)  # all is imported: a module that another thread imports at a fork stays locked in the child
thread = threading.Thread(target=compile)
thread.start()
wrong = 0
for i in range(12):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        compiler._functions.clear()
        train(i)
        os._exit(0)
    until = time.time() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.time() < until:
        time.sleep(0.002)
    if ended != (child, 0):
        wrong += 1
        if ended[0] == 0:
            os.kill(child, 9)
        break
over.set()
thread.join()
print(wrong)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_beside_a_thread_that_compiles_leaves_the_child_able_to() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)}
    code = [sys.executable, "-W", "ignore", "-c", FORKING]
    done = subprocess.run(code, capture_output=True, text=True, check=False, timeout=100, env=environment)
    assert (done.stdout, done.stderr) == ("0\n", "")
