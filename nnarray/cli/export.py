"""`nnarray export`: a saved model as ONNX."""

import argparse
import json
import os
from typing import Any

from nnarray.cli.errors import CommandError
from nnarray.cli.output import one_line, quoted, say
from nnarray.cli.paths import check_path
from nnarray.files import read_model, write_atomically

MOST_NAMED = 8
"""Inputs that are named."""


def export(arguments: argparse.Namespace) -> int:
    """Write a model file's network and preprocessing as one ONNX graph, and say what it takes and gives."""
    check_path("OUT", arguments.out)
    if os.path.realpath(arguments.out) == os.path.realpath(arguments.model):
        msg = f"{arguments.out} is the model itself, which would be lost: name another file"
        raise CommandError(msg)
    model = read_model(arguments.model, "numpy")
    try:
        from nnarray.onnx import model_to_onnx

        options = {} if arguments.opset is None else {"opset": arguments.opset}
        made = model_to_onnx(model, **options)
    except ImportError as problem:
        raise CommandError(str(problem)) from None
    except ValueError as problem:
        msg = f"{arguments.model} cannot be exported: {problem}"
        raise CommandError(msg) from None
    write_atomically(arguments.out, made.SerializeToString())
    say(f"model written to {one_line(arguments.out)}")
    say(f"  takes {_named(made.graph.input)}\n  gives {_named(made.graph.output)}")
    for entry in made.metadata_props:
        if entry.key == "dates":
            from nnarray.onnx.exporting import DAYS

            say(f"  dates are {DAYS}: {', '.join(map(quoted, json.loads(entry.value)))}")
    return 0


def _named(ends: Any) -> str:
    """Inputs or outputs with their kinds and shapes."""
    from onnx import TensorProto

    told = []
    for end in ends[:MOST_NAMED]:
        held = end.type.tensor_type
        shape = ", ".join(str(dim.dim_param or dim.dim_value) for dim in held.shape.dim)
        told.append(f"{quoted(end.name)} {TensorProto.DataType.Name(held.elem_type).lower()} ({shape})")
    return "; ".join(told) + (f"; … ({len(ends)} in all)" if len(ends) > MOST_NAMED else "")
