"""`nnarray export`: the graph gives what `nnarray predict` gives for the same cells."""

import csv
import json
import sys
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray.files.preprocessing import DATE_PARTS, Category, Date, Ignored, Number, Scaling, to_plain
from nnarray.files.preprocessing import Preprocessing as Steps

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("here")

from nnarray.onnx import model_to_onnx  # noqa: E402


def evaluated(path: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph for the inputs that it asks for."""
    content = path if isinstance(path, str) else path.SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, {value.name: feed[value.name] for value in session.get_inputs()}))


def table(m: int = 200, seed: int = 0) -> dict[str, list[str]]:
    """Cells as a file has them: categories, numbers far from zero, booleans, dates and holes in all of them."""
    rng = np.random.default_rng(seed)
    town, flag = rng.choice(["Ulm", "Köln", "", "NA"], m), rng.choice(["true", "false"], m)
    area, rooms = (2e9 + rng.normal(0, 30, m)).round(3), rng.integers(1, 6, m)
    sold = (np.datetime64("2020-01-01") + rng.integers(0, 900, m)).astype(str)
    score = area - 2e9 + 20 * (town == "Ulm") + 5 * rooms + 10 * (flag == "true")
    return {
        "town": town.tolist(),
        "area": ["" if k % 9 == 0 else str(V) for k, V in enumerate(area)],
        "sold": ["" if k % 13 == 0 else V for k, V in enumerate(sold)],
        "same": ["7"] * m,
        "Gemm_3": flag.tolist(),
        "label": ["NA" if k % 11 == 0 else str(V) for k, V in enumerate(rooms)],
        "three": np.array(["low", "mid", "high"])[np.digitize(score, [-5, 25])].tolist(),
        "two": (score > 10).tolist(),
        "price": score.round(4).astype(str).tolist(),
    }


def write(path: str, cells: dict[str, list[Any]], names: list[str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *zip(*(cells[name] for name in names), strict=True)])


def numbers(cells: list[str]) -> np.ndarray:
    return np.array([float(V) if V not in {"", "NA"} else np.nan for V in cells])[:, None]


def days(cells: list[str]) -> np.ndarray:
    moments = np.array([V or "NaT" for V in cells], "datetime64[D]")
    return np.where(np.isnat(moments), np.nan, moments.astype("int64"))[:, None]


def feed_of(cells: dict[str, list[str]]) -> dict[str, np.ndarray]:
    texts = {name: np.array(cells[name], dtype=object)[:, None] for name in ("town", "Gemm_3")}
    return texts | {"sold": days(cells["sold"])} | {name: numbers(cells[name]) for name in ("area", "label")}


def predicted(path: str) -> tuple[list[str], np.ndarray]:
    """The first column of predictions, and the numbers after it, or in it."""
    with open(path, encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    return [row[0] for row in rows], np.array([row[1:] or row for row in rows], dtype="float64")


FEATURES = ["town", "area", "sold", "same", "Gemm_3", "label"]


class TestAgreesWithPredict:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("target", ["three", "two"])
    def test_classes_of_a_table_of_all_kinds(self, run, target, dtype) -> None:
        write("t.csv", table(), [*FEATURES, target])
        run("train", "t.csv", "--epochs", "8", "--out", "m.safetensors", "--dtype", dtype, "--quiet")
        code, out, _ = run("export", "m.safetensors", "m.onnx")
        assert code == 0
        assert "model written to m.onnx" in out
        unseen = table(seed=1)
        unseen["town"][:5] = ["Bonn"] * 5  # which is none of the categories
        write("new.csv", unseen, FEATURES)
        assert run("predict", "m.safetensors", "new.csv", "--probabilities", "--out", "p.csv")[0] == 0
        labels, shares = predicted("p.csv")
        label, probabilities = evaluated("m.onnx", feed_of(unseen))
        assert list(map(str, label)) == labels
        assert probabilities.dtype == dtype
        np.testing.assert_allclose(probabilities, shares, atol=2e-6 if dtype == "float32" else 1e-12, rtol=0)

    def test_numbers_that_mark_missing_cells_are_missing_in_the_graph(self, run) -> None:
        cells = table()
        cells["area"][::7] = ["-9999"] * len(cells["area"][::7])
        write("t.csv", cells, ["area", "label", "price"])
        assert run("train", "t.csv", "--epochs", "3", "--out", "m.safetensors", "--na=-9999,NA", "--quiet")[0] == 0
        assert run("export", "m.safetensors", "m.onnx")[0] == 0
        assert run("predict", "m.safetensors", "t.csv", "--out", "p.csv")[0] == 0
        X = np.column_stack([numbers(cells[name])[:, 0] for name in ("area", "label")])
        assert (X == -9999).any()
        (said,) = evaluated("m.onnx", {"X": X})
        np.testing.assert_allclose(said[:, 0], predicted("p.csv")[1][:, 0], rtol=1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_numbers_and_dates_are_one_input(self, run, dtype) -> None:
        names = ["area", "same", "sold", "label", "price"]
        write("t.csv", table(), names)
        run("train", "t.csv", "--epochs", "8", "--out", "m.safetensors", "--dtype", dtype, "--quiet")
        assert run("export", "m.safetensors", "m.onnx")[0] == 0
        unseen = table(seed=1)
        write("new.csv", unseen, names[:-1])
        assert run("predict", "m.safetensors", "new.csv", "--out", "p.csv")[0] == 0
        feed = feed_of(unseen)
        X = np.hstack([feed["area"], numbers(unseen["same"]), feed["sold"], feed["label"]])
        (prediction,) = evaluated("m.onnx", {"X": X})
        assert (prediction.dtype, prediction.shape) == ("float64", (200, 1))
        _, expected = predicted("p.csv")
        tolerance = 1e-6 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(prediction, expected, rtol=0, atol=tolerance * np.abs(expected).max())

    def test_a_bundled_table(self, run) -> None:
        run("train", "digits", "--epochs", "2", "--out", "m.safetensors", "--quiet")
        assert run("export", "m.safetensors", "m.onnx", "--opset", "21")[0] == 0
        assert run("predict", "m.safetensors", "digits", "--probabilities", "--out", "p.csv")[0] == 0
        from sklearn.datasets import load_digits

        label, probabilities = evaluated("m.onnx", {"X": load_digits().data})
        labels, shares = predicted("p.csv")
        assert list(map(str, label)) == labels
        np.testing.assert_allclose(probabilities, shares, atol=2e-6)

    def test_names_and_classes_are_metadata_and_how_it_was_trained_is_not(self, run) -> None:
        write("t.csv", table(), [*FEATURES, "three"])
        run("train", "t.csv", "--epochs", "2", "--out", "m.safetensors", "--quiet")
        run("export", "m.safetensors", "m.onnx")
        held = {entry.key: json.loads(entry.value) for entry in onnx.load("m.onnx").metadata_props}
        known = nn.read_model("m.safetensors").metadata
        assert set(held) == {"classes", "features", "target", "preprocessing", "nnarray", "dates"}
        assert all(held[key] == known[key] for key in ("classes", "features", "target", "preprocessing"))
        assert "training" not in held["nnarray"]


def prepared(columns: Any, output: str = "identity", **metadata: Any) -> nn.files.Model:
    """A model of these columns, with weights of its own."""
    steps = Steps(tuple(columns), Scaling(5.0, 3.0) if output == "identity" else None)
    network = nn.Network((steps.n_x, 4, 3 if output == "softmax" else 1), hidden="tanh", output=output)
    metadata["preprocessing"] = to_plain(steps)
    return nn.files.Model(network, network.init(seed=1, dtype="float64"), metadata)


class TestAgreesWithTheModel:
    @pytest.mark.filterwarnings("ignore:column 0")
    def test_every_part_of_a_date_before_and_after_1970(self) -> None:
        model = prepared([Date({name: Scaling(0.1, 2.0) for name in DATE_PARTS}, 17.25)])
        x = np.array([-40000.5, -1.25, -0.0, 0.0, 0.999999, 19000.123456, 1e6, np.nan, -7.0, 7.0])
        (found,) = evaluated(model_to_onnx(model), {"X": x[:, None]})
        np.testing.assert_allclose(found, model.predict(x[None]).T, rtol=0, atol=1e-12)

    @pytest.mark.filterwarnings("ignore:column 0")
    def test_numbers_far_away_are_cut_off_as_in_training(self) -> None:
        model = prepared([Number(Scaling(2e11, 1e-3), 2e11), Number(Scaling(0.0, 1e-300), 0.0)])
        X = np.array([[2e11, 2e11 + 1, -1e300, np.nan], [1e-300, 1e300, 0.0, -1.7e308]])
        (found,) = evaluated(model_to_onnx(model), {"X": X.T})
        np.testing.assert_allclose(found, model.predict(X).T, rtol=1e-12)

    @pytest.mark.parametrize("opset", [13, 15, 17, 19, 21])
    @pytest.mark.filterwarnings("ignore:the column 'label'")
    def test_categories_ignored_columns_and_names_that_nodes_have(self, opset) -> None:
        columns = [Category(("a", "b", None)), Ignored(), Number(Scaling(1.0, 2.0), 1.0), Category(("x", "NA"))]
        names = ["label", "Concat_0", "prediction", "A"]
        model = prepared(columns, features=names)
        cells = {
            "label": np.array(["a", "b", "", "NA", "c"], dtype=object)[:, None],
            "prediction": np.array([1.0, np.nan, -3.0, 4.0, 5.0])[:, None],
            "A": np.array(["x", "NA", "", "y", "x"], dtype=object)[:, None],
        }
        graph = model_to_onnx(model, opset=opset, missing=("", "NA"))
        asked = {
            "label": ["a", "b", None, None, "c"],
            "prediction": cells["prediction"][:, 0],
            "A": ["x", "NA", None, "y", "x"],
        }
        (found,) = evaluated(graph, cells)
        np.testing.assert_allclose(found, model.predict(asked).T, rtol=1e-12)

    @pytest.mark.parametrize("classes", [["u", "v", "w"], [3, -1, 2**40], None])
    def test_raw_numbers_and_classes_of_every_kind(self, classes) -> None:
        network = nn.Network((2, 5, 3), output="softmax", hidden="gelu")
        metadata = {} if classes is None else {"classes": classes}
        params = network.init(seed=2)
        X = np.random.default_rng(0).normal(size=(30, 2)) * [1.0, 3e9]
        label, probabilities = evaluated(model_to_onnx(nn.files.Model(network, params, metadata)), {"X": X})
        A = network.predict(params, X.T)
        np.testing.assert_allclose(probabilities, A.T, atol=1e-6)
        assert label.tolist() == [(classes or [0, 1, 2])[k] for k in A.argmax(axis=0)]

    @pytest.mark.parametrize(("n", "output"), [(1, "sigmoid"), (3, "softmax")])
    @pytest.mark.parametrize("hidden", ["relu", "gelu"])
    def test_what_is_no_number_has_no_label(self, n, output, hidden) -> None:
        network = nn.Network((2, 3, n), hidden=hidden, output=output)
        made = model_to_onnx(nn.files.Model(network, network.init(seed=1), {}))
        session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        X = np.array([[0.5, -1.0], [np.nan, 1.0]])
        with pytest.raises(Exception, match="out of"):
            session.run(None, {"X": X})
        np.testing.assert_allclose(session.run(None, {"X": X[:1]})[1].sum(), 1.0, rtol=1e-6)
        with pytest.raises(ValueError, match="X must be finite"):
            network.predict(network.init(seed=1), X.T)
        assert nn.from_onnx(made)[0] == network

    def test_metadata_say_what_dates_are(self) -> None:
        steps = Steps((Number(Scaling(0.0, 1.0), 0.0), Date({"days": Scaling(0.0, 1.0)}, 0.0)))
        network = nn.Network((2, 1), output="identity")
        model = nn.files.Model(
            network, network.init(), {"preprocessing": to_plain(steps), "features": ["area", "sold"]}
        )
        (said,) = [entry.value for entry in model_to_onnx(model).metadata_props if entry.key == "dates"]
        assert json.loads(said) == {"sold": "days since 1970-01-01 UTC"}

    def test_a_share_of_one_half_is_the_first_class(self) -> None:
        network = nn.Network((1, 1))
        model = nn.files.Model(network, network.parameters(np.array([1.0, 0.0])), {"classes": [False, True]})
        label, shares = evaluated(model_to_onnx(model), {"X": np.array([[0.0], [1e-3]])})
        assert label.tolist() == [False, True]
        assert shares[0].tolist() == [0.5, 0.5]


class TestRefused:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (prepared([Category(("", "a", None))]), "empty text as a category beside missing cells"),
            (prepared([Number(Scaling(0.0, 1.0), 0.0)], "softmax", classes=[1, 2, 2**70]), "whole numbers beyond 64"),
        ],
    )
    def test_what_no_graph_can_say(self, run, model, message) -> None:
        nn.save("m.safetensors", *model[:2], metadata=model.metadata)
        code, out, err = run("export", "m.safetensors", "m.onnx")
        assert (code, out) == (2, "")
        assert err.startswith("nnarray: error: m.safetensors cannot be exported: ")
        assert message in err
        assert err.count("\n") == 1

    def test_places_and_options(self, run, here) -> None:
        network = nn.Network((2, 1))
        nn.save("m.safetensors", network, network.init())
        for words, message in (
            (["m.safetensors", "nowhere/m.onnx"], "there is no folder 'nowhere'"),
            (["m.safetensors", "./m.safetensors"], "is the model itself"),
            (["m.safetensors", "m.onnx", "--opset", "12"], "opset must be from 13 to"),
            (["missing.safetensors", "m.onnx"], "missing.safetensors"),
            (["m.safetensors"], "the following arguments are required: OUT"),
        ):
            code, _, err = run("export", *words)
            assert code == 2
            assert message in err
            assert err.count("\n") == 1
        assert sorted(path.name for path in here.iterdir()) == ["m.safetensors"]

    def test_without_onnx_the_extra_is_named(self, run, monkeypatch) -> None:
        network = nn.Network((2, 1))
        nn.save("m.safetensors", network, network.init())
        monkeypatch.setitem(sys.modules, "onnx", None)
        code, _, err = run("export", "m.safetensors", "m.onnx")
        assert code == 2
        assert "extra nnarray[onnx]" in err
        assert err.count("\n") == 1
