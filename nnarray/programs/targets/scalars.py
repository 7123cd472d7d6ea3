"""Scalars as Python expressions."""

from collections.abc import Callable, Sequence

from nnarray.programs.graph import Scalar

OPERATIONS = {
    "power": "({} ** {})",
    "add": "({} + {})",
    "subtract": "({} - {})",
    "multiply": "({} * {})",
    "divide": "({} / {})",
}


def python_expression(number: Scalar | float) -> str:
    """The number in Python; the scalars that a program is given are variables."""
    if not isinstance(number, Scalar):
        text = repr(number)
        return f"({text})" if text.startswith("-") else text  # -1.0 ** t is -(1.0 ** t)
    if number.operation == "given":
        return number.name
    return OPERATIONS[number.operation].format(*map(python_expression, number.sources))


def function_of(given: Sequence[Scalar], numbers: Sequence[Scalar]) -> Callable[..., tuple[float, ...]]:
    """A function from the numbers that a program is given to those that its code needs."""
    expressions = "".join([f"{python_expression(number)}, " for number in numbers])
    function: Callable[..., tuple[float, ...]] = eval(f"lambda {', '.join(x.name for x in given)}: ({expressions})")
    return function
