"""Model files: what goes in comes out, and nothing else gets in."""

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as safetensors_bytes

import nnarray as nn
from nnarray.backends import atomic
from nnarray.files import Model, ModelFileError, load, read_model, save

NETWORK = nn.Network((3, 4, 2), hidden="tanh", output="softmax")
METADATA = {
    "classes": ["grün", "赤"],
    "features": ["Länge", "width", "höhe"],
    "target": "Farbe",
    "preprocessing": {"mean": [0.0, 1.5, -2], "scale": [1.0, 2.0, 3]},
}


def pairs_of(network, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    shapes = zip(network.sizes[:-1], network.sizes[1:], strict=True)
    return [(rng.normal(size=(n, p)).astype(dtype), rng.normal(size=(n, 1)).astype(dtype)) for p, n in shapes]


def describe(network=NETWORK, **changes):
    """The JSON of a file, with changes; a value of None takes the key away."""
    whole = {"format": 1, "sizes": list(network.sizes), "hidden": list(network.hidden), "output": network.output}
    return {key: value for key, value in (whole | changes).items() if value is not None}


def file_bytes(description, tensors=None, entry="nnarray"):
    if tensors is None:
        tensors = {f"{k}{l}": V for l, pair in enumerate(pairs_of(NETWORK), 1) for k, V in zip("Wb", pair, strict=True)}
    text = description if isinstance(description, str) else json.dumps(description)
    return safetensors_bytes(tensors, metadata={entry: text})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, NETWORK, pairs_of(NETWORK), metadata=METADATA)
    return path


class TestRoundTrip:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize(
        "network",
        [
            nn.Network((3, 1)),
            NETWORK,
            nn.Network((5, 7, 6, 3), hidden=("relu", "sigmoid"), output="identity"),
            nn.Network((1, 1, 1), output="exp"),
        ],
        ids=str,
    )
    def test_every_bit_comes_back(self, tmp_path, network, order, dtype):
        pairs = [(np.asarray(W, order=order), b) for W, b in pairs_of(network, dtype=dtype)]
        save(tmp_path / "m", network, pairs)
        again, params = load(tmp_path / "m")
        assert again == network
        assert params.dtype == dtype
        for (W, b), layer in zip(pairs, params, strict=True):
            np.testing.assert_array_equal(layer.W, W)
            np.testing.assert_array_equal(layer.b, b)

    def test_strided_and_transposed_and_read_only_weights(self, tmp_path):
        network = nn.Network((3, 4))
        W = np.random.default_rng(0).normal(size=(6, 8)).T[::2, ::-2]
        W.flags.writeable = False
        save(tmp_path / "m", network, [(W, np.ones((4, 1)))])
        np.testing.assert_array_equal(load(tmp_path / "m")[1][0].W, W)

    def test_parameters_of_a_network(self, tmp_path):
        params = NETWORK.init(seed=3)
        save(str(tmp_path / "m"), NETWORK, params)
        np.testing.assert_array_equal(load(tmp_path / "m")[1].vector, params.vector)

    def test_metadata_with_unicode_names(self, saved):
        model = read_model(saved)
        assert isinstance(model, Model)
        assert model.metadata == METADATA
        assert model.network == NETWORK

    @pytest.mark.parametrize("classes", [["a", "b"], [-1, 10**30], [False, True]])
    def test_kinds_of_class_names(self, tmp_path, classes):
        save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata={"classes": classes})
        again = read_model(tmp_path / "m").metadata["classes"]
        assert again == classes
        assert [type(name) for name in again] == [type(name) for name in classes]

    @pytest.mark.parametrize(
        ("key", "names", "plain"),
        [
            ("classes", np.array(["a", "b"]), ["a", "b"]),
            ("classes", np.array([3, 4]), [3, 4]),
            ("classes", (np.int64(3), np.int64(4)), [3, 4]),
            ("classes", [np.False_, np.True_], [False, True]),
            ("classes", range(2), [0, 1]),
            ("features", ("a", "b", "c"), ["a", "b", "c"]),
            ("features", np.array(["a", "b", "c"], dtype=object), ["a", "b", "c"]),
            ("preprocessing", {"mean": np.zeros(3)}, {"mean": [0.0, 0.0, 0.0]}),
        ],
        ids=str,
    )
    def test_metadata_in_any_sequence(self, tmp_path, key, names, plain):
        save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata={key: names})
        assert repr(read_model(tmp_path / "m").metadata[key]) == repr(plain)

    def test_predictions_are_the_same(self, saved):
        X = np.random.default_rng(1).normal(size=(3, 9)).astype("float32")
        network, params = load(saved)
        np.testing.assert_array_equal(network.predict(params, X), NETWORK.predict(pairs_of(NETWORK), X))

    def test_the_same_model_gives_the_same_bytes(self, saved, tmp_path):
        save(tmp_path / "again", NETWORK, pairs_of(NETWORK), metadata=METADATA)
        assert (tmp_path / "again").read_bytes() == saved.read_bytes()

    def test_any_safetensors_reader_sees_the_layers(self, saved):
        assert {k: V.shape for k, V in tensors_of(saved.read_bytes()).items()} == {
            "W1": (4, 3),
            "b1": (4, 1),
            "W2": (2, 4),
            "b2": (2, 1),
        }

    @pytest.mark.parametrize("name", [n for n in nn.backends.BACKENDS if nn.backends.unavailable_reason(n) is None])
    def test_onto_and_from_every_backend(self, saved, tmp_path, name):
        network, params = load(saved, backend=name)
        assert params.backend.name == name
        save(tmp_path / "again", network, params, metadata=METADATA)
        assert (tmp_path / "again").read_bytes() == saved.read_bytes()

    def test_the_default_backend_decides_where_parameters_go(self, saved):
        pytest.importorskip("torch")
        with nn.use_backend("torch"):
            assert load(saved)[1].backend.name == "torch"
        assert load(saved)[1].backend.name == "numpy"


class TestSaveRefuses:
    @pytest.mark.parametrize(
        "pairs",
        [
            pairs_of(nn.Network((3, 5, 2))),
            pairs_of(NETWORK)[:1],
            [(W.T, b) for W, b in pairs_of(NETWORK)],
            [(W, b.ravel()) for W, b in pairs_of(NETWORK)],
        ],
    )
    def test_parameters_that_do_not_fit(self, tmp_path, pairs):
        with pytest.raises(ValueError, match=r"sizes|shape"):
            save(tmp_path / "m", NETWORK, pairs)
        assert not list(tmp_path.iterdir())

    def test_arguments_in_another_order(self, tmp_path):
        with pytest.raises(TypeError, match="network must be a Network, got Parameters"):
            save(NETWORK, NETWORK.init(), tmp_path / "m")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_parameters_that_are_not_finite(self, tmp_path, value):
        pairs = pairs_of(NETWORK)
        pairs[1][1][0, 0] = value
        with pytest.raises(ValueError, match="finite"):
            save(tmp_path / "m", NETWORK, pairs)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "metadata",
        [
            {"code": "import os"},
            {"format": 2},
            {"sizes": [1, 1]},
            {"classes": ["a"]},
            {"classes": ["a", "a"]},
            {"classes": ["a", 1]},
            {"classes": [1.5, 2.5]},
            {"classes": ["\ud800", "b"]},
            {"classes": "ab"},
            {"classes": np.array(3)},
            {"classes": np.array([1.5, 2.5])},
            {"classes": np.eye(2)},
            {"features": "abc"},
            {"features": ["a", "b"]},
            {"features": [1, 2, 3]},
            {"target": None},
            {"preprocessing": {"mean": [0.0, 0.0, float("nan")]}},
            {"preprocessing": {"mean": [0.0, 0.0, 10**400]}},
            {"preprocessing": {"scale": [1.0, 0.0, 1.0]}},
            {"preprocessing": {"scale": [1.0, True, 1.0]}},
            {"preprocessing": {"steps": []}},
        ],
        ids=ascii,
    )
    def test_metadata_that_a_file_cannot_hold(self, tmp_path, metadata):
        with pytest.raises(ValueError, match=r"metadata|must be"):
            save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata=metadata)
        assert not list(tmp_path.iterdir())


TABLE = {
    "columns": [
        {"kind": "number", "mean": 2e11, "scale": 10.0, "fill": 2e11},
        {"kind": "ignored"},
        {"kind": "category", "categories": ["Ulm", None]},
        {"kind": "date", "parts": {"days": {"mean": 20000.0, "scale": 5.0}}, "fill": 20000.0, "layout": "ISO8601"},
    ],
    "target": {"mean": 1.7e9, "scale": 20.0},
}
MAKES_FOUR = nn.Network((4, 3, 1), hidden="tanh", output="identity")
NUMBERS = {"columns": [TABLE["columns"][0], TABLE["columns"][1]], "target": TABLE["target"]}


class TestPreprocessing:
    """Models that take a table's columns: in float64 first, in the network's dtype afterwards."""

    @pytest.fixture
    def path(self, tmp_path):
        names = ["t", "one", "town", "sold"]
        metadata = {"features": names, "target": "y", "preprocessing": TABLE, "training": {"data": "t.csv", "rows": 3}}
        save(tmp_path / "m", MAKES_FOUR, pairs_of(MAKES_FOUR), metadata=metadata)
        return tmp_path / "m"

    def test_it_comes_back_as_it_was(self, path):
        model = read_model(path)
        assert model.metadata["preprocessing"] == TABLE
        assert model.preprocessing.n_x == 4
        assert b'\\"format\\": 2' in path.read_bytes()

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        [
            ({"town": ["Ulm"]}, ValueError, "the column 'town' has 1 value, and the column 't' has 2"),
            ({"t": [1.0] * 3}, ValueError, "the column 'town' has 2 values, and the column 't' has 3"),
            ({"t": 1.0}, TypeError, r"the column 't' must be a sequence of m values, got 1.0; .* is \[1.0\]"),
            ({"town": "Ulm"}, TypeError, "the column 'town' must be a sequence of m values, got 'Ulm'"),
            ({"t": [1.0, float("inf")]}, ValueError, "the column 't': a number must be finite, .* got inf"),
            ({"t": ["1", "many"]}, ValueError, "the column 't': could not convert string to float: .*many"),
            (
                {"sold": ["2024-01-01", "19.08.2020"]},
                ValueError,
                "the column 'sold': .*19.08.2020.* ISO texts .*pandas.to_datetime",
            ),
        ],
    )
    def test_columns_that_are_none(self, path, wrong, error, message):
        with pytest.raises(error, match=message):
            read_model(path).predict({"t": [1.0, 2.0], "town": ["Ulm"] * 2, "sold": ["2024-01-01"] * 2} | wrong)

    @pytest.mark.parametrize("missing", [None, float("nan"), "NA", "NaT"])
    def test_what_pandas_has_for_missing_cells(self, path, missing):
        pandas = pytest.importorskip("pandas")
        cell = getattr(pandas, missing) if isinstance(missing, str) else missing
        given = {"t": [2e11, 2e11], "town": ["Ulm", cell], "sold": ["2024-10-04", cell]}
        frame = pandas.DataFrame({name: pandas.Series(values, dtype=object) for name, values in given.items()})
        model, plain = read_model(path), given | {"town": ["Ulm", None], "sold": ["2024-10-04", None]}
        np.testing.assert_array_equal(model.predict(frame), model.predict(plain))
        typed = frame.astype({"town": "string"})
        np.testing.assert_array_equal(model.predict(typed), model.predict(plain))

    @pytest.mark.parametrize("make", [dict, "frame"])
    def test_predictions_of_a_table_by_names(self, path, make):
        columns = {
            "sold": ["2024-10-04", "2024-10-09", None],
            "town": ["Ulm", None, "Jena"],
            "t": [2e11 + 5, float("nan"), 2e11 - 20],
            "more": [1, 2, 3],
        }
        if make == "frame":
            pandas = pytest.importorskip("pandas")
            columns["sold"] = pandas.to_datetime(columns["sold"])
            make = pandas.DataFrame
        X = np.array([[0.5, 0, -2], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
        expected = 1.7e9 + 20 * MAKES_FOUR.predict(pairs_of(MAKES_FOUR), X.astype("float32")).astype("float64")
        model = read_model(path)
        with pytest.warns(UserWarning, match="the column 'town': 1 of 3 cells, such as 'Jena', are none"):
            np.testing.assert_array_equal(model.prepare(make(columns)), X.astype("float32"))
        with pytest.warns(UserWarning, match="the column 'town': 1 of 3"):
            np.testing.assert_array_equal(model.predict(make(columns)), expected)

    def test_columns_that_lack_are_named(self, path):
        with pytest.raises(ValueError, match="the model needs the columns 'town', 'sold'"):
            read_model(path).predict({"t": [1.0]})

    def test_a_network_of_numbers_alone_cannot_be_had_of_texts(self, path):
        with pytest.raises(ValueError, match=r"column of the kind 'category'; use read_model\(path\).predict\(table\)"):
            load(path)

    @pytest.mark.parametrize("name", [n for n in nn.backends.BACKENDS if nn.backends.unavailable_reason(n) is None])
    def test_load_folds_the_scaling_in(self, tmp_path, name):
        network = nn.Network((1, 3, 1), hidden="tanh", output="identity")
        save(tmp_path / "m", network, pairs_of(network), metadata={"preprocessing": NUMBERS})
        raw = np.array([[2e11 + 5, 2e11, 2e11 - 20], [7, 8, 1e300]])
        again, params = load(tmp_path / "m", backend=name)
        assert (again.sizes, params.dtype) == ((2, 3, 1), "float64")
        said = params.backend.to_numpy(again.predict(params, params.backend.asarray(raw, "float64")))
        model = read_model(tmp_path / "m", backend=name)
        np.testing.assert_allclose(said, model.predict(raw), rtol=1e-14, atol=1e-4)
        assert np.ptp(said) > 1

    def test_load_stays_in_float32_where_that_holds_the_scaling(self, tmp_path):
        network = nn.Network((1, 3, 1), hidden="tanh", output="identity")
        near = {"columns": [{"kind": "number", "mean": 30.0, "scale": 10.0, "fill": 0.0}]}
        save(tmp_path / "m", network, pairs_of(network), metadata={"preprocessing": near})
        again, params = load(tmp_path / "m")
        assert params.dtype == "float32"
        x = np.array([[10.0, 20.0, 50.0]])
        np.testing.assert_allclose(again.predict(params, x), read_model(tmp_path / "m").predict(x), rtol=1e-5)

    def test_a_model_without_preprocessing_takes_a_table_too(self, saved):
        X = np.random.default_rng(1).normal(size=(3, 9)).astype("float32")
        model = read_model(saved)
        table = dict(zip(model.metadata["features"], X, strict=True))
        np.testing.assert_array_equal(model.predict(table), model.network.predict(model.params, X))

    def test_a_file_of_format_1_has_its_scaling_folded_in_already(self, saved):
        assert read_model(saved).preprocessing is None
        assert b'\\"format\\": 1' in saved.read_bytes()

    @pytest.mark.parametrize(
        "column",
        [
            {"kind": "number", "mean": 0.0, "scale": 0.0, "fill": 0.0},
            {"kind": "number", "mean": 0.0, "scale": 1.0},
            {"kind": "number", "mean": True, "scale": 1.0, "fill": 0.0},
            {"kind": "category", "categories": []},
            {"kind": "category", "categories": ["a", "a"]},
            {"kind": "category", "categories": [1]},
            {"kind": "category", "categories": [["a"]]},
            {"kind": "date", "parts": {}, "fill": 0.0, "layout": "ISO8601"},
            {"kind": "date", "parts": {"eval": {"mean": 0.0, "scale": 1.0}}, "fill": 0.0, "layout": "ISO8601"},
            {"kind": "date", "parts": {"days": {"mean": 0.0, "scale": 1.0}}, "fill": 0.0, "layout": "eval"},
            {"kind": "date", "parts": {"days": {"mean": 0.0, "scale": 1.0}}, "fill": 0.0, "layout": ["ISO8601"]},
            {"kind": "ignored", "more": 1},
            {"kind": ["number"]},
            {"kind": "code"},
            "number",
            None,
        ],
        ids=str,
    )
    def test_other_columns_are_refused(self, tmp_path, column):
        network = nn.Network((2, 1))
        plain = {"columns": [{"kind": "number", "mean": 0.0, "scale": 1.0, "fill": 0.0}, column]}
        with pytest.raises(ValueError, match="preprocessing"):
            save(tmp_path / "m", network, pairs_of(network), metadata={"preprocessing": plain})
        tensors = {"W1": np.ones((1, 2), "float32"), "b1": np.ones((1, 1), "float32")}
        (tmp_path / "m").write_bytes(file_bytes(describe(network, format=2, preprocessing=plain), tensors))
        assert is_refused(tmp_path / "m")


DAMAGED = {
    "no JSON": "{",
    "no object": "[]",
    "empty": "",
    "a constant": json.dumps(describe()).replace("1", "NaN", 1),
    "infinity": '{"format": 1, "sizes": [3, 4, 2], "hidden": ["tanh"], "output": "softmax", "target": Infinity}',
    "a key twice": json.dumps(describe())[:-1] + ', "format": 1}',
    "deep": "[" * 100_000,
    "deep in an object": '{"format": 1, "sizes": ' + "[" * 50_000 + "]" * 50_000 + "}",
    "a number of many digits": '{"format": ' + "9" * 10_000 + "}",
    "unknown key": describe(colour="red"),
    "later format": describe(format=2),
    "format true": describe(format=True),
    "format 1.0": describe(format=1.0),
    "no format": describe(format=None),
    "no sizes": describe(sizes=None),
    "no hidden": describe(hidden=None),
    "no output": describe(output=None),
    "sizes of another network": describe(sizes=[3, 5, 2]),
    "one size": describe(sizes=[3]),
    "no size": describe(sizes=[]),
    "negative size": describe(sizes=[3, -4, 2]),
    "zero size": describe(sizes=[3, 0, 2]),
    "huge size": describe(sizes=[3, 10**30, 2]),
    "huge sizes": describe(sizes=[2**62, 2**62, 2**62], hidden=["relu"]),
    "many sizes": describe(sizes=[1] * 100_000, hidden=["relu"] * 99_998),
    "as many sizes as names": describe(sizes=[2] * 100_000, hidden=["relu"] * 99_998),
    "size true": describe(sizes=[3, 4, True]),
    "size 2.0": describe(sizes=[3, 4, 2.0]),
    "size text": describe(sizes=[3, "4", 2]),
    "sizes an object": describe(sizes={"3": 4}),
    "unknown activation": describe(hidden=["os.system"]),
    "hidden a text": describe(hidden="tanh"),
    "hidden too long": describe(hidden=["tanh", "tanh"]),
    "hidden a list": describe(hidden=[["tanh"]]),
    "unknown output": describe(output="eval"),
    "output a list": describe(output=["softmax"]),
    "wrong classes": describe(classes=["a", "b", "c"]),
    "classes an object": describe(classes={"a": 1, "b": 2}),
    "classes mixed": describe(classes=[1, True]),
    "classes null": describe() | {"classes": None},
    "wrong features": describe(features=["a"]),
    "target a number": describe(target=3),
    "half a surrogate": '{"format":1,"sizes":[3,4,2],"hidden":["tanh"],"output":"softmax","target":"\\ud800"}',
    "a float beyond floats": json.dumps(describe(preprocessing={"mean": [0, 0, 7]})).replace("7", "1e999"),
    "scale zero": describe(preprocessing={"scale": [1, 1, 0]}),
    "scale true": describe(preprocessing={"scale": [1, 1, True]}),
}


def tensors_with(**changes):
    tensors = tensors_of(file_bytes(describe())) | changes
    return {name: V for name, V in tensors.items() if V is not None}


BAD_TENSORS = {
    "missing": tensors_with(b2=None),
    "extra": tensors_with(W3=np.ones((1, 2), "float32")),
    "path for a name": tensors_with(**{"../W3": np.ones((1, 2), "float32")}),
    "wrong shape": tensors_with(W1=np.ones((3, 4), "float32")),
    "rank 1": tensors_with(b1=np.ones(4, "float32")),
    "rank 3": tensors_with(b1=np.ones((4, 1, 1), "float32")),
    "empty": tensors_with(b1=np.ones((4, 0), "float32")),
    "two dtypes": tensors_with(W1=np.ones((4, 3), "float64")),
    "float16": {k: V.astype("float16") for k, V in tensors_with().items()},
    "int32": {k: V.astype("int32") for k, V in tensors_with().items()},
    "nan": tensors_with(b2=np.array([[np.nan], [0]], "float32")),
    "inf": tensors_with(W2=np.full((2, 4), np.inf, "float32")),
    "none": {},
}


def raw_file(header, body=b""):
    text = json.dumps(header, ensure_ascii=False).encode()
    return len(text).to_bytes(8, "little") + text + body


HOSTILE = ("\x1b[31m", "\u202e", "x" * 1000)
LONG = "\x1b[31m\u202e\n" + "x" * 100_000
QUOTED = {
    "hidden": file_bytes(describe(hidden=[LONG])),
    "output": file_bytes(describe(output=LONG)),
    "sizes": file_bytes(describe(sizes=[3] * 50_000, hidden=["relu"])),
    "an unknown key": file_bytes(describe(**{LONG: 1})),
    "format": file_bytes(describe(format=LONG)),
    "no object": file_bytes(json.dumps(LONG)),
    "a class": file_bytes(describe(classes=[LONG, LONG])),
    "a key of the preprocessing": file_bytes(describe(preprocessing={LONG: [1]})),
    "a tensor's name": file_bytes(describe(), tensors_with(**{LONG: np.ones((1, 2), "float32")})),
    "a tensor's shape": file_bytes(describe(), tensors_with(W1=np.ones((1,) * 60, "float32"))),
    "a tensor's dtype": raw_file({"W1": {"dtype": LONG, "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "a field of a tensor": raw_file({"W1": {LONG: 1, "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "an offset": raw_file({"W1": {"dtype": "F32", "shape": [1], "data_offsets": [0, LONG]}}, bytes(4)),
}


class TestReadRefuses:
    @pytest.mark.parametrize("description", DAMAGED.values(), ids=list(DAMAGED))
    def test_descriptions(self, tmp_path, description):
        path = tmp_path / "m.safetensors"
        path.write_bytes(file_bytes(description))
        with pytest.raises(ModelFileError, match=r"m\.safetensors is not a valid model file: .") as caught:
            load(path)
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize("content", QUOTED.values(), ids=list(QUOTED))
    def test_what_a_message_quotes_is_cut_and_escaped(self, tmp_path, content):
        path = tmp_path / "m.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"m\.safetensors is not a valid model file: .") as caught:
            load(path)
        shown = "".join(traceback.format_exception(caught.value)).replace(str(path), "").splitlines()[-1]
        assert str(caught.value).isprintable()
        assert len(shown) < 600
        assert not any(hostile in "".join(traceback.format_exception(caught.value)) for hostile in HOSTILE)

    @pytest.mark.parametrize("tensors", BAD_TENSORS.values(), ids=list(BAD_TENSORS))
    def test_tensors(self, tmp_path, tensors):
        path = tmp_path / "m.safetensors"
        path.write_bytes(file_bytes(describe(), tensors))
        with pytest.raises(ModelFileError, match=r"m\.safetensors"):
            load(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0",
            b"PK\x03\x04 a zip file",
            b"\x80\x04\x95 a pickle",
            b"\xff" * 64,
            (2**40).to_bytes(8, "little") + b"{}",
            safetensors_bytes({}),
            file_bytes(describe(), entry="other"),
            safetensors_bytes(tensors_with(), metadata={"format": "pt"}),
        ],
    )
    def test_other_files(self, tmp_path, content):
        path = tmp_path / "m.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"m\.safetensors"):
            load(path)

    def test_the_untouched_file_of_these_tests_is_valid(self, tmp_path):
        (tmp_path / "m").write_bytes(file_bytes(describe(), tensors_with()))
        assert load(tmp_path / "m")[0] == NETWORK

    def test_a_missing_file_and_a_directory(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "missing")
        with pytest.raises(IsADirectoryError):
            load(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_a_pipe_is_not_waited_on(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="regular file"):
            load(tmp_path / "pipe")

    def test_it_is_a_value_error(self):
        assert issubclass(nn.ModelFileError, ValueError)


class TestMetadataOfOthers:
    ENTRIES: ClassVar[dict[str, str]] = {"format": "pt", "made by": "another tool", "": "\x1b[31m赤"}

    def test_entries_of_other_tools_are_left_alone_and_kept(self, tmp_path):
        path = tmp_path / "m"
        path.write_bytes(safetensors_bytes(tensors_with(), {"nnarray": json.dumps(describe()), **self.ENTRIES}))
        model = read_model(path)
        assert (model.network, model.metadata) == (NETWORK, {"entries": self.ENTRIES})
        save(path, *model[:2], metadata=model.metadata)
        assert read_model(path).metadata == model.metadata
        with safe_open(path, framework="numpy") as file:
            assert {key: file.metadata()[key] for key in self.ENTRIES} == self.ENTRIES

    @pytest.mark.parametrize(
        "user",
        [{"git": "abc", "epochs": 12, "nested": [{"a": None, "b": [True, 1.5]}]}, "text", 3, None, [], {"ü": "\n"}],
        ids=repr,
    )
    def test_the_user_s_own_entry(self, tmp_path, user):
        save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata={**METADATA, "user": user})
        assert read_model(tmp_path / "m").metadata == {**METADATA, "user": user}

    def test_the_user_s_own_arrays_are_lists(self, tmp_path):
        save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata={"user": {"a": np.arange(2), "b": (np.float64(1),)}})
        assert read_model(tmp_path / "m").metadata["user"] == {"a": [0, 1], "b": [1.0]}

    @pytest.mark.parametrize(
        "metadata",
        [
            {"user": {1: 2}},
            {"user": {"a": float("nan")}},
            {"user": [object()]},
            {"user": {"a": {1, 2}}},
            {"user": b"bytes"},
            {"user": "\ud800"},
            {"user": {"\ud800": 1}},
            {"entries": {"a": 1}},
            {"entries": {"nnarray": "x"}},
            {"entries": ["a"]},
            {"entries": {"a": "\ud800"}},
            {"entries": "text"},
        ],
        ids=lambda metadata: next(iter(metadata)),  # a set has no fixed order, an object no fixed name
    )
    def test_what_a_file_cannot_hold(self, tmp_path, metadata):
        with pytest.raises(ValueError, match=r'"(user|entries)" must be'):
            save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata=metadata)
        assert not (tmp_path / "m").exists()


class TestFilesOfOthers:
    """Tensors W1, b1, … of another tool, which say no architecture."""

    def write(self, path, dtype, columns=True, **changes):
        tensors = {name: V if columns or V.shape[1] > 1 else V[:, 0] for name, V in tensors_with(**changes).items()}
        if dtype == "bfloat16":
            torch = pytest.importorskip("torch")
            from safetensors.torch import save_file

            rounded = {name: torch.tensor(V).to(torch.bfloat16) for name, V in tensors.items()}
            save_file(rounded, path, metadata={"format": "pt"})
        else:
            path.write_bytes(safetensors_bytes({name: V.astype(dtype) for name, V in tensors.items()}))

    @pytest.mark.parametrize("columns", [True, False])
    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
    def test_they_are_read_where_the_architecture_is_given(self, tmp_path, dtype, columns):
        self.write(tmp_path / "m", dtype, columns)
        network, params = load(tmp_path / "m", network=NETWORK)
        assert (network, params.dtype) == (NETWORK, "float64" if dtype == "float64" else "float32")

        def rounded(V):
            if dtype != "bfloat16":
                return V.astype(dtype)
            torch = pytest.importorskip("torch")
            return torch.tensor(V).to(torch.bfloat16).float().numpy()

        for pair, layer in zip(pairs_of(NETWORK), params, strict=True):
            for found, V in zip(layer, pair, strict=True):
                np.testing.assert_array_equal(found, rounded(V))

    def test_mixed_dtypes(self, tmp_path):
        (tmp_path / "m").write_bytes(safetensors_bytes(tensors_with(W1=np.ones((4, 3), "float64"))))
        assert load(tmp_path / "m", network=NETWORK)[1].dtype == "float64"

    def test_metadata_is_kept(self, tmp_path):
        self.write(tmp_path / "m", "bfloat16")
        assert read_model(tmp_path / "m", network=NETWORK).metadata == {"entries": {"format": "pt"}}

    def test_a_file_with_a_description_must_be_of_that_network(self, saved):
        assert read_model(saved, network=NETWORK).metadata == METADATA
        with pytest.raises(ModelFileError, match="of another network"):
            load(saved, network=nn.Network((3, 4, 2), output="softmax"))

    @pytest.mark.parametrize("name", ["missing", "extra", "wrong shape", "rank 3", "empty", "int32", "nan", "inf"])
    def test_what_is_wrong_with_the_tensors_is_refused_as_ever(self, tmp_path, name):
        (tmp_path / "m").write_bytes(safetensors_bytes(BAD_TENSORS[name]))
        with pytest.raises(ModelFileError):
            load(tmp_path / "m", network=NETWORK)

    def test_without_the_architecture_it_says_what_to_give(self, tmp_path):
        self.write(tmp_path / "m", "float32")
        with pytest.raises(ModelFileError, match="give the network"):
            load(tmp_path / "m")

    def test_what_is_no_network(self, saved):
        with pytest.raises(TypeError, match="network must be a Network"):
            load(saved, network=(3, 4, 2))

    def test_every_damage_to_a_bfloat16_file_is_refused_or_whole(self, tmp_path):
        path = tmp_path / "m"
        self.write(path, "bfloat16")
        content, rng = path.read_bytes(), np.random.default_rng(0)
        for length in range(0, len(content), 3):
            path.write_bytes(content[:length])
            with pytest.raises(ModelFileError):
                load(path, network=NETWORK)
        refused = 0
        for _ in range(300):
            damaged = bytearray(content)
            damaged[rng.integers(len(content))] = rng.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                assert np.isfinite(load(path, network=NETWORK)[1].vector).all()
            except ModelFileError:
                refused += 1
        assert 100 < refused < 300


BASES = [
    (nn.Network((2, 1)), "float32", {}),
    (NETWORK, "float32", METADATA),
    (nn.Network((2, 3, 3, 1), hidden=("relu", "leaky_relu"), output="identity"), "float64", {"target": "price"}),
    (MAKES_FOUR, "float32", {"preprocessing": TABLE, "training": {"data": "t.csv"}}),
]
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    2**63,
    10**400,
    1.5,
    1e308,
    "",
    "relu",
    "softmax",
    "W1",
    [],
    {},
    [[]],
    "\ud800",
]

LENGTHS = [0, 1, 100, 2**31, 2**40, 2**63, 2**64 - 1]


def damaged_bytes(content, rng):
    """One file damaged somewhere: a truncation, bytes overwritten in header or body, the header's length, its JSON."""
    kind = rng.integers(8)
    header = 8 + int.from_bytes(content[:8], "little")
    damaged = bytearray(content)
    if kind == 0:
        return bytes(damaged[: rng.integers(len(content))])
    if kind == 1:
        return bytes(damaged) + rng.bytes(int(rng.integers(1, 40)))
    if kind == 2:
        near = header - 8 + int(rng.integers(-3, 4))
        length = LENGTHS[rng.integers(len(LENGTHS))] if rng.random() < 0.5 else near
        return length.to_bytes(8, "little") + content[8:]
    if kind in (3, 4):
        low, high = (0, header) if kind == 3 else (header, len(content))
        for at in rng.integers(low, high, size=rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        return bytes(damaged)
    table = json.loads(content[8:header])
    if kind == 5:
        damage_json(table, rng)
    else:
        description = json.loads(table["__metadata__"]["nnarray"])
        damage_json(description, rng)
        table["__metadata__"]["nnarray"] = json.dumps(description)
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + content[header:]


def damage_json(value, rng):
    """Change, remove, add or swap something, somewhere in a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = keys[rng.integers(len(keys))]
    if isinstance(value[key], dict | list) and rng.random() < 0.7:
        damage_json(value[key], rng)
        return
    other = keys[rng.integers(len(keys))]
    action = rng.integers(5)
    if action == 0:
        del value[key]
    elif action == 1:
        value[key], value[other] = value[other], value[key]
    elif action == 2 and isinstance(value[key], int):
        value[key] = value[key] + int(rng.choice([-1, 1, 8, 2**32]))
    elif action == 3 and isinstance(value, dict):
        value[str(rng.choice(["W1", "W9", "code", "sizes", "classes"]))] = value.pop(key)
    else:
        value[key] = VALUES[rng.integers(len(VALUES))]


class TestFuzz:
    @pytest.mark.parametrize("seed", range(4))
    def test_damaged_files_are_refused_or_whole(self, tmp_path, seed):
        """4 times 4000 damaged files: each is refused as a model file, or is a model that computes."""
        folder = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
        path = folder / f"nnarray-fuzz-{os.getpid()}-{seed}.safetensors"
        rng = np.random.default_rng(seed)
        refused = 0
        try:
            for network, dtype, metadata in BASES:
                save(path, network, pairs_of(network, seed, dtype), metadata=metadata)
                content = path.read_bytes()
                for _ in range(1000):
                    path.write_bytes(damaged_bytes(content, rng))
                    refused += is_refused(path)
        finally:
            path.unlink(missing_ok=True)
        assert 2000 < refused < 3950

    def test_every_truncation(self, saved):
        content = saved.read_bytes()
        for length in range(len(content)):
            saved.write_bytes(content[:length])
            assert is_refused(saved)


def is_refused(path):
    try:
        network, params, _ = read_model(path)
    except ModelFileError as error:
        return str(path) in str(error)
    assert params.sizes == network.sizes
    assert np.isfinite(params.vector).all()
    with np.errstate(all="ignore"):  # finite weights may be as large as 1e308
        A = network.predict(params, np.ones((network.sizes[0], 2), params.dtype))
    assert A.shape == (network.sizes[-1], 2)
    return False


SAVE_IN_A_LOOP = """
import sys
import numpy as np
import nnarray as nn
from nnarray.files import save
network = nn.Network((50, 200, 10), output="softmax")
k = 0
while True:
    k += 1
    theta = np.full(network.size, float(k), dtype="float32")
    save(sys.argv[1], network, network.parameters(theta))
    print(k, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_while_saving_the_file_stays_whole(tmp_path):
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    for _ in range(20):
        command = [sys.executable, "-c", SAVE_IN_A_LOOP, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
        values = np.unique(load(path)[1].vector)
        assert values.size == 1, "a mixture of two saves"


class TestFailedWrites:
    def fail(self, *args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_a_close_that_fails_after_all_was_flushed_fails_nothing(self, tmp_path, monkeypatch):
        fail = self.fail

        class File(io.FileIO):
            def close(self):
                super().close()
                fail()

        with monkeypatch.context() as patch:
            patch.setattr(atomic.io, "FileIO", File)
            save(tmp_path / "m", NETWORK, pairs_of(NETWORK, seed=2))
        assert [p.name for p in tmp_path.iterdir()] == ["m"]
        np.testing.assert_array_equal(load(tmp_path / "m")[1][0].W, pairs_of(NETWORK, seed=2)[0][0])

    @pytest.mark.parametrize("function", ["write", "fsync", "replace"])
    @pytest.mark.parametrize("exists", [True, False])
    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch, function, exists):
        path = tmp_path / "model.safetensors"
        if exists:
            save(path, NETWORK, pairs_of(NETWORK, seed=1))
        before = {p: p.read_bytes() for p in tmp_path.iterdir()}
        with monkeypatch.context() as patch:
            patch.setattr(os, function, self.fail)
            with pytest.raises(OSError, match="No space left"):
                save(path, NETWORK, pairs_of(NETWORK, seed=2))
        assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before

    def test_a_disk_that_fills_up_halfway(self, tmp_path, monkeypatch):
        real = os.write
        left = [100]

        def write(file, content):
            if left[0] == 0:
                self.fail()
            written = real(file, bytes(content[: left[0]]))
            left[0] -= written
            return written

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(OSError, match="No space left"):
                save(tmp_path / "m", NETWORK, pairs_of(NETWORK))
        assert not list(tmp_path.iterdir())

    def test_writes_that_take_a_few_bytes_at_a_time(self, tmp_path, saved, monkeypatch):
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, content: real(file, bytes(content[:7])))
        save(tmp_path / "m", NETWORK, pairs_of(NETWORK), metadata=METADATA)
        assert (tmp_path / "m").read_bytes() == saved.read_bytes()

    def test_ctrl_c_leaves_the_old_file_and_nothing_else(self, saved, monkeypatch):
        def interrupt(*args):
            raise KeyboardInterrupt

        before = saved.read_bytes()
        monkeypatch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(saved, NETWORK, pairs_of(NETWORK, seed=2))
        assert saved.read_bytes() == before
        assert list(saved.parent.iterdir()) == [saved]

    def test_a_path_of_bytes(self, tmp_path):
        path = os.fsencode(tmp_path / "é")
        save(path, NETWORK, pairs_of(NETWORK))
        assert load(path)[0] == NETWORK
        assert os.listdir(tmp_path) == ["é"]
        with pytest.raises(FileNotFoundError, match="no folder"):
            save(os.path.join(path, b"no", b"m"), NETWORK, pairs_of(NETWORK))

    def test_a_missing_folder_a_directory_and_a_device(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            save(tmp_path / "no" / "m", NETWORK, pairs_of(NETWORK))
        with pytest.raises(IsADirectoryError):
            save(tmp_path, NETWORK, pairs_of(NETWORK))
        if stat.S_ISCHR(os.stat(os.devnull).st_mode):
            with pytest.raises(OSError, match="not a regular file"):
                save(os.devnull, NETWORK, pairs_of(NETWORK))


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
class TestPermissions:
    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
    def test_a_new_file_gets_what_open_gives(self, tmp_path, umask):
        before = os.umask(umask)
        try:
            save(tmp_path / "m", NETWORK, pairs_of(NETWORK))
            (tmp_path / "plain").write_bytes(b"")
        finally:
            os.umask(before)
        assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_an_old_file_keeps_its_own(self, saved):
        saved.chmod(0o640)
        save(saved, NETWORK, pairs_of(NETWORK))
        assert stat.S_IMODE(saved.stat().st_mode) == 0o640

    def test_a_link_is_followed(self, saved, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(saved)
        save(link, NETWORK, pairs_of(NETWORK, seed=5))
        assert link.is_symlink()
        np.testing.assert_array_equal(load(saved)[1][0].W, pairs_of(NETWORK, seed=5)[0][0])

    def test_a_name_as_long_as_names_can_be(self, tmp_path):
        save(tmp_path / ("m" * 255), NETWORK, pairs_of(NETWORK))
        assert load(tmp_path / ("m" * 255))[0] == NETWORK


def test_the_labels_of_a_model():
    softmax, numbers = nn.Network((2, 3), output="softmax"), nn.Network((2, 1), output="identity")
    params = softmax.parameters([1.0, 0.0, 0.0, 1.0, -1.0, -1.0, 0.0, 0.0, 0.1])
    X = np.array([[2.0, 0.0, -1.0], [0.0, 2.0, -1.0]])
    assert Model(softmax, params, {"classes": ["x", "y", "z"]}).labels(X) == ["x", "y", "z"]
    assert Model(softmax, params, {}).labels(X) == [0, 1, 2]
    with pytest.raises(ValueError, match="doesn't tell classes; predict gives its numbers"):
        Model(numbers, numbers.init(), {}).labels(X)
