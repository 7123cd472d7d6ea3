"""The way of X that the guide tells: which modules a call goes through, the first time and then."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray.backends import makes_machine_code
from nnarray.engine.tiling import tile_width
from nnarray.guide import house

PACKAGE = Path(nn.__file__).parent


def modules_of(call: Callable[[], Any]) -> list[str]:
    """The modules of nnarray in which functions are called, in the order in which each comes first."""
    found: dict[str, None] = {}

    def profile(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            found.setdefault(path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return list(found)


def test_the_page_names_modules_that_there_are() -> None:
    """Those with their floor; the others are in the row of a floor."""
    names = re.findall(r"`((?:core|programs|backends|engine|network|training)\.[a-z_.]+)`", house.__doc__)
    assert len(names) >= 3
    for name in names:
        path = PACKAGE / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), name


def is_in_order(names: list[str], found: list[str]) -> bool:
    return [name for name in found if name in names] == names


@pytest.mark.skipif(not makes_machine_code(), reason="tells of machine code, for which there is no compiler here")
def test_a_batch_of_several_tiles() -> None:
    network = nn.Network((3, 7, 2), hidden="silu", output="identity")
    width = tile_width(network, 10**6, 8)
    X, Y, params = np.ones((3, 3 * width)), np.ones((2, 3 * width)), network.init(dtype="float64")
    first, second = (modules_of(lambda: network.gradients(params, X, Y, workers=1)) for _ in range(2))
    compiling = ["programs.trace", "core.propagation", "programs.lowering", "programs.schedule", "programs.memory"]
    assert is_in_order(["network.entry", "engine.compute", "engine.compiling", "programs.trace"], first)
    assert {*compiling, "programs.targets.llvm.program", "engine.workers"} <= {*first}
    assert {"network.entry", "engine.compute", "engine.workers", "programs.targets.llvm.program"} <= {*second}
    assert not {*compiling, "programs.targets.llvm.loops"} & {*second}


@pytest.mark.skipif(not makes_machine_code(), reason="tells of machine code, for which there is no compiler here")
def test_a_batch_of_one_tile_takes_the_short_way() -> None:
    network = nn.Network((3, 6, 2), hidden="silu", output="identity")
    X, Y, params = np.ones((3, 20)), np.ones((2, 20)), network.init(dtype="float64")
    network.gradients(params, X, Y)
    then = modules_of(lambda: network.gradients(params, X, Y))
    assert "engine.native_calls" in then
    assert not {"engine.compute", "engine.compiling", "programs.trace"} & {*then}
    unusual = modules_of(lambda: network.gradients(params, X[:, ::-1].tolist(), Y))
    assert "network.entry" in unusual
