"""Which columns of a table are features, and which is the target, by the options that name them."""

import argparse
import re
from collections.abc import Sequence

from nnarray.cli.errors import CommandError
from nnarray.cli.names import listed_names, no_such_column
from nnarray.cli.output import quoted
from nnarray.cli.table import Table
from nnarray.cli.tables import refuse_target, resolve, resolve_one

PANDAS_INDEX = re.compile(r"Unnamed: 0(\.\d+)*$")
"""What pandas calls an index that it wrote without a name and read again as a column."""


def words(given: Sequence[str]) -> list[str]:
    """Every name that an option may mean, before the table's own names are known."""
    return [word for text in given for word in (text, *(part.strip() for part in text.split(",")))]


def features_and_target(table: Table, arguments: argparse.Namespace) -> tuple[list[str], str | None]:
    """The names of the feature columns (of places where there are none), and that of the target."""
    if table.names is None or table.y is not None:
        target = table.target
        if arguments.target is not None and arguments.target != target:
            refuse_target(table, arguments.target)
    else:
        target = table.target if arguments.target is None else arguments.target
        if target not in table.names:
            refuse_target(table, str(target))
    roles = {
        option: resolve(given, table.names, table.source, option)
        for option, given in (
            ("--features", arguments.features),
            ("--drop", arguments.drop),
            ("--id", arguments.id),
            ("--categorical", arguments.categorical),
            ("--numeric", arguments.numeric),
        )
    }
    roles["--weights"] = [resolve_one(arguments.weights, table, "--weights")] if arguments.weights else []
    if table.names is None:
        return [f"column {k + 1}" for k in range(len(table.columns))], target
    _check_roles(target, roles)
    left_out = {target, *roles["--drop"], *roles["--id"], *roles["--weights"]}
    indexes = set(filter(PANDAS_INDEX.match, table.names)).difference(left_out, *roles.values())
    if indexes and not roles["--features"]:
        table.notes.append(f"the index {listed_names(sorted(indexes))} of pandas is left out, unless --features has it")
        left_out |= indexes
    names = [name for name in roles["--features"] or table.names if name not in left_out]
    table.refuse_unread(names)
    if not names:
        msg = f"{table.source} has no column besides the target {quoted(target)}"
        raise CommandError(msg)
    return names, target


def _check_roles(target: str | None, roles: dict[str, list[str]]) -> None:
    for option, named in roles.items():
        if target in named:
            msg = f"the target {quoted(target)} cannot be a column of {option} as well (see --target)"
            raise CommandError(msg)
    both = [name for name in roles["--features"] for option in ("--drop", "--id", "--weights") if name in roles[option]]
    both += [name for name in roles["--categorical"] if name in roles["--numeric"]]
    if both:
        msg = f"the column {quoted(both[0])} is named by two options that exclude each other"
        raise CommandError(msg)


def require_columns(table: Table, wanted: Sequence[str]) -> None:
    """Raise CommandError where a table lacks columns."""
    known = set(table.names or ())
    missing = [name for name in wanted if name not in known]
    if missing:
        raise CommandError(no_such_column(table.source, missing, table.names or []))
