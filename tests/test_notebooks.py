"""What a prompt and a notebook show of an object: a short text, a table, a picture, a bar."""

import io
import pickle
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import nnarray as nn

XOR = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]


def cells(shown: Any) -> list[list[str]]:
    """The tables' cells, row by row, of an object's `_repr_html_`, which is well-formed."""
    tree = ElementTree.fromstring(f"<all>{shown._repr_html_()}</all>")
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


@pytest.fixture(scope="module")
def network() -> nn.Network:
    return nn.Network((2, 300, 1), hidden="tanh")


@pytest.fixture(scope="module", params=[nn.Adam(), nn.RMSprop(), nn.GradientDescent()], ids=lambda o: type(o).__name__)
def result(request, network) -> nn.TrainingResult:
    return nn.train(network, *XOR, epochs=15, validation=XOR, patience=15, optimizer=request.param)


class TestText:
    def test_a_result_is_short_and_says_what_came_of_it(self, result) -> None:
        text = repr(result)
        assert len(text) < 500
        assert "array(" not in text
        assert "\n" not in text
        for words in ("15 epochs", "stopped='epochs'", f"t={result.state.t}", f"cost={result.history[-1].cost:.6g}"):
            assert words in text

    def test_an_epoch_has_what_is_known_of_it(self, result) -> None:
        assert repr(nn.Epoch(3, 2 / 3, 0.1, 1.5)) == "Epoch(epoch=3, cost=0.666667, learning_rate=0.1, seconds=1.5)"
        assert "validation_score=" in repr(result.history[0])

    def test_a_state_names_its_means_by_dtype_and_shape(self, result) -> None:
        state, size = result.state, result.params.vector.shape[0]
        means = [name for name in ("v", "s") if getattr(state, name) is not None]
        named = "".join(f" {name}=<float32 ({size},)>," for name in means)
        assert repr(state) == f"State(t={state.t},{named} position=Position(epoch={result.history.kept_epoch}, …))"

    def test_a_state_of_whatever_a_transform_puts_in(self) -> None:
        jax = pytest.importorskip("jax")
        state = nn.Adam().init(nn.Network((2, 1)).init(backend="jax"))
        seen: list[str] = []
        jax.jit(lambda state: seen.append(repr(state)) or state.v)(state)
        assert len(seen[0]) < 200
        assert "v=<float32 (3,)>" in seen[0]
        marked = jax.tree_util.tree_map(lambda _: object(), state)
        assert "object" in repr(marked)

    def test_what_is_shown_in_short_is_kept_whole(self, result) -> None:
        again = pickle.loads(pickle.dumps(result))
        assert again.state.position.order == result.state.position.order
        np.testing.assert_array_equal(again.params.vector, result.params.vector)

    def test_a_summary_shows_its_lines_at_a_prompt(self, network) -> None:
        summary = network.summary()
        assert repr(summary) == summary == str(summary)
        assert "\n" in repr(summary)
        assert summary + "!" == f"{summary}!"
        assert pickle.loads(pickle.dumps(summary)) == summary

    def test_a_model_file_with_many_columns(self, network, tmp_path) -> None:
        names = [f"column {i}" for i in range(2)] + ["<b>"]
        wide = nn.Network((3, 1))
        nn.save(
            tmp_path / "m.safetensors", wide, wide.init(), metadata={"features": names, "user": {"note": "n" * 5000}}
        )
        model = nn.read_model(tmp_path / "m.safetensors")
        assert len(repr(model)) < 300
        assert "features, user" in repr(model)
        rows = cells(model)
        assert ["features", "['column 0', 'column 1', '<b>']"] in rows
        assert max(len(row[-1]) for row in rows) <= 201


class TestTables:
    def test_of_a_network_and_its_summary(self, network) -> None:
        rows = cells(network)
        assert rows == cells(network.summary())
        assert rows[0] == ["layer", "units", "activation", "W", "b", "parameters"]
        assert rows[2] == ["1", "300", "tanh", "(300, 2)", "(300, 1)", "900"]
        assert rows[-1] == ["total", "", "", "", "", "1,201"]

    def test_of_parameters_between_which_values_they_lie(self, space) -> None:
        W, b = space.asarray([[-0.5, 2.0]]), space.asarray([[7.0]])
        rows = cells(nn.Parameters.from_layers([(W, b)]))
        assert rows[1] == ["1", "(1, 2)", "-0.5 … 2", "(1, 1)", "7 … 7"]

    def test_of_parameters_without_values_there_is_none(self) -> None:
        jax = pytest.importorskip("jax")
        params, seen = nn.Network((2, 1)).init(backend="jax"), list[Any]()
        jax.jit(lambda params: seen.append(params._repr_html_()) or params.vector)(params)
        many = jax.vmap(lambda scale: jax.tree_util.tree_map(lambda x: scale * x, params))(jax.numpy.ones(4))
        assert [*seen, many._repr_html_()] == [None, None]

    def test_of_a_history_its_first_and_last_epochs(self, result) -> None:
        rows = cells(result.history)
        assert rows[0] == [name for name in nn.Epoch._fields if name != "params"]
        assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4", "5", "…", "11", "12", "13", "14", "15"]
        assert rows[1][1] == f"{result.history[0].cost:.6g}"
        assert [row[0] for row in cells(result.history[:3])] == ["epoch", "1", "2", "3"]
        assert cells(nn.History()) == [[]]

    def test_a_column_that_nothing_is_known_of_is_left_out(self) -> None:
        history = nn.train(nn.Network((2, 1)), *XOR, epochs=2).history
        assert cells(history)[0] == cells(history[0])[0] == ["epoch", "cost", "learning_rate", "seconds"]

    def test_of_a_result_with_its_history(self, result) -> None:
        rows = cells(result)
        assert ["stopped", "epochs"] in rows
        assert ["state", repr(result.state)] in rows
        assert cells(result.history) == rows[5:]
        assert ["t", str(result.state.t)] in cells(result.state)


class TestPictures:
    def test_a_history_s_figure_shows_itself_and_pyplot_keeps_none(self, result) -> None:
        pyplot = pytest.importorskip("matplotlib.pyplot")
        before = pyplot.get_fignums()
        figure = result.history.plot()
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert repr(figure).startswith("<Figure size")
        assert pyplot.get_fignums() == before


class TestBar:
    def test_a_notebook_has_one_unless_told_otherwise(self, monkeypatch) -> None:
        """A kernel's standard error is no terminal, and of a class of ipykernel's."""
        stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
        monkeypatch.setattr(sys, "stderr", stream)
        nn.train(nn.Network((2, 1)), *XOR, epochs=3, progress=False)
        assert stream.getvalue() == ""
        nn.train(nn.Network((2, 1)), *XOR, epochs=3)
        assert "3/3" in stream.getvalue()

    def test_it_is_the_bar_that_tqdm_picks(self, monkeypatch) -> None:
        auto, made = pytest.importorskip("tqdm.auto"), list[dict[str, Any]]()

        class Widget(auto.tqdm):
            def __init__(self, **options: Any) -> None:
                made.append(options)
                super().__init__(**options)

        monkeypatch.setattr(auto, "tqdm", Widget)
        nn.train(nn.Network((2, 1)), *XOR, epochs=3, progress=True)
        assert made[0]["total"] == 3
