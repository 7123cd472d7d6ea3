"""Examples on the host on their way to a GPU: how rows of any dtype and layout are copied into pinned memory."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnarray.engine import host
from nnarray.engine.host import copy_rows, gather_rows


def misaligned(x):
    made = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    made[...] = x
    return made


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "rows": lambda x: x,
    "columns": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "upside down": lambda x: x[::-1].copy()[::-1],
    "misaligned": misaligned,
    "in the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": read_only,
}


sizes = st.integers(1, 300)


@example(257, 65, "float32", "float32", "columns", 0)  # one row and one column more than a block
@settings(deadline=None, max_examples=60)
@given(
    sizes,
    st.integers(1, 200),
    st.sampled_from(["float32", "float64", "uint8", "float16", "bool"]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(0, 2**32),
)
def test_rows_of_any_dtype_and_layout(m, n, dtype, wanted, layout, seed) -> None:
    generator = np.random.default_rng(seed)
    table = LAYOUTS[layout]((generator.normal(size=(m, n)) * 50).astype(dtype))
    here = np.full((m, n), np.nan, wanted)
    copy_rows(here, table)
    assert np.array_equal(here, table.astype(wanted))
    rows = generator.integers(0, m, generator.integers(1, 2 * m + 1))
    here = np.full((len(rows), n), np.nan, wanted)
    gather_rows(here, table, rows)
    assert np.array_equal(here, table[rows].astype(wanted))


def test_gathering_copies_no_whole_table(monkeypatch) -> None:
    """`np.take` would, of one that is not contiguous, aligned and of the wanted dtype."""
    taken = []
    take = np.take
    monkeypatch.setattr(
        host.np, "take", lambda table, *given, **named: taken.append(table) or take(table, *given, **named)
    )
    table, rows = np.arange(12, dtype="float32").reshape(4, 3), np.array([2, 0])
    for other in (
        *(layout(table) for name, layout in LAYOUTS.items() if name not in ("rows", "read-only")),
        table.astype(int),
    ):
        if other.flags.c_contiguous and other.flags.aligned and other.dtype == table.dtype:
            pytest.fail("one more layout that can be taken")
        gather_rows(np.empty((2, 3), "float32"), other, rows)
    assert not taken
    gather_rows(np.empty((2, 3), "float32"), table, rows)
    assert taken == [table]
