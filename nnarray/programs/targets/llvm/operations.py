"""Elementwise operations as LLVM IR, by their names in a graph. Truths are of the type i1."""

from collections.abc import Callable
from functools import partial

from nnarray.programs.targets.llvm import mathematics
from nnarray.programs.targets.llvm.code import Code
from nnarray.programs.targets.llvm.mathematics import compare, select


def arithmetic(code: Code, x: str, y: str, *, instruction: str) -> str:
    """One of the four."""
    return code.arithmetic(instruction, x, y)


def comparison(code: Code, x: str, y: str, *, how: str) -> str:
    """A truth about two floats."""
    return compare(code, how, x, y)


def written(code: Code, *operands: str, instruction: str) -> str:
    """An instruction in which {T} stands for the float and {0}, {1} for the operands."""
    return code.value(instruction.format(*operands, T=code.T))


def maximum(code: Code, x: str, y: str, *, how: str = "oge") -> str:
    """The larger one, or the smaller one where `how` says so; NaN if either is."""
    is_x, is_nan = compare(code, how, x, y), compare(code, "uno", x, x)
    return select(code, code.value(f"or i1 {is_x}, {is_nan}"), x, y)


OPERATIONS: dict[str, Callable[..., str]] = {
    "abs": partial(written, instruction="call {T} @llvm.fabs({T} {0})"),
    "add": partial(arithmetic, instruction="fadd"),
    "divide": partial(arithmetic, instruction="fdiv"),
    "equal": partial(comparison, how="oeq"),
    "exp": mathematics.exp,
    "expm1": mathematics.expm1,
    "floor": partial(written, instruction="call {T} @llvm.floor({T} {0})"),
    "greater": partial(comparison, how="ogt"),
    "greater_equal": partial(comparison, how="oge"),
    "less": partial(comparison, how="olt"),
    "less_equal": partial(comparison, how="ole"),
    "log": mathematics.log,
    "log1p": mathematics.log1p,
    "logical_and": partial(written, instruction="and i1 {0}, {1}"),
    "logical_not": partial(written, instruction="xor i1 {0}, true"),
    "logical_or": partial(written, instruction="or i1 {0}, {1}"),
    "maximum": maximum,
    "minimum": partial(maximum, how="ole"),
    "multiply": partial(arithmetic, instruction="fmul"),
    "negative": partial(written, instruction="fneg {T} {0}"),
    "not_equal": partial(comparison, how="une"),
    "sign": mathematics.sign,
    "sqrt": partial(written, instruction="call {T} @llvm.sqrt({T} {0})"),
    "subtract": partial(arithmetic, instruction="fsub"),
    "tanh": mathematics.tanh,
    "where": select,
}
