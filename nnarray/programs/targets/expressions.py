"""Scalars as Python expressions."""

from nnarray.programs.graph import Scalar

OPERATIONS = {"power": "({} ** {})", "subtract": "({} - {})", "multiply": "({} * {})", "divide": "({} / {})"}


def python_expression(number: Scalar | float) -> str:
    """The number in Python; the scalars that a program is given are variables."""
    if not isinstance(number, Scalar):
        return repr(number)
    if number.operation == "given":
        return number.name
    return OPERATIONS[number.operation].format(*map(python_expression, number.sources))
