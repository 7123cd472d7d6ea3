"""Pictures of boundaries, curves and weights, and the gallery of the course."""

import os
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray import examples

plt = pytest.importorskip("matplotlib.pyplot")

XOR = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]
SMALL: dict[str, dict[str, int]] = {
    "digits": {"epochs": 2},
    "planar_data": {"m": 60, "epochs": 5},
    "symmetry": {"m": 60, "epochs": 5},
    "batch_normalization": {"epochs": 2, "depth": 3, "units": 8},
    "vanishing_gradients": {"depth": 5, "units": 4, "m": 10},
    "regularization": {"m": 40, "epochs": 3},
    "mini_batches": {"m": 64, "epochs": 2},
    "optimizers": {"m": 60, "epochs": 3},
    "random_search": {"trials": 3, "epochs": 2},
    "gradient_checking": {"m": 10},
}


@pytest.fixture(autouse=True)
def closed() -> Any:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def half_plane(output: nn.network.names.OutputName, rows: int) -> tuple[nn.Network, list[tuple[Any, Any]]]:
    """A network that says 1, or class 1, where x1 > 0.5, whatever x2 is."""
    network = nn.Network((2, rows), output=output)
    W, b = np.zeros((rows, 2)), np.zeros((rows, 1))
    W[-1, 0], b[-1, 0] = 8.0, -4.0
    return network, [(W, b)]


X, Y = map(np.array, XOR)
WRONG: dict[str, tuple[Any, str]] = {
    "turned": ({"X": np.ones((5, 2)), "Y": np.ones((1, 5))}, r"X must have shape.*is it X\.T\?"),
    "a vector of targets": ({"Y": Y[0]}, r"Y must have shape.*make it Y\[None, :\]"),
    "three targets, which would make a colour": ({"Y": Y[:, :3]}, "Y must have shape"),
    "NaN": ({"X": X * np.nan}, "X must be finite"),
    "targets": ({"Y": Y + 1}, r"Y must be in \[0, 1\]"),
    "resolution": ({"resolution": 1}, "resolution must be a whole number ≥ 2"),
}


class TestBoundary:
    @pytest.mark.parametrize("name", WRONG)
    def test_what_is_wrong_is_told_in_the_letters_of_the_equations(self, name: str) -> None:
        wrong, message = WRONG[name]
        network, layers = half_plane("sigmoid", 1)
        with pytest.raises(ValueError, match=message):
            nn.plots.decision_boundary(network, layers, **{"X": X, "Y": Y} | wrong)

    def test_a_figure_is_no_axes(self) -> None:
        network, layers = half_plane("sigmoid", 1)
        with pytest.raises(TypeError, match="ax must be the axes of a matplotlib figure, got Figure"):
            nn.plots.decision_boundary(network, layers, X, Y, ax=plt.figure())

    def test_of_a_sigmoid_unit_is_where_it_says_a_half(self, space) -> None:
        network, layers = half_plane("sigmoid", 1)
        X, Y = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]), np.array([[0.0, 0.0, 1.0, 1.0]])
        ax = nn.plots.decision_boundary(network, space.pairs(layers), space.asarray(X), space.asarray(Y))
        (line,) = [c for c in ax.collections if list(getattr(c, "levels", ())) == [0.5]]
        points = np.concatenate([path.vertices for path in line.get_paths()])
        np.testing.assert_allclose(points[:, 0], 0.5, atol=1e-6)
        assert points[:, 1].min() < 0
        assert points[:, 1].max() > 1
        examples = ax.collections[-1]
        np.testing.assert_array_equal(examples.get_offsets(), X.T)
        assert examples.get_array().tolist() == [0.0, 0.0, 1.0, 1.0]

    def test_of_classes_is_an_area_for_each(self) -> None:
        network, layers = half_plane("softmax", 2)
        ax = nn.plots.decision_boundary(network, layers, XOR[0], nn.one_hot([0, 0, 1, 1], 2))
        areas = ax.collections[0].get_paths()
        assert len(areas) == 2
        assert areas[0].vertices[:, 0].max() == pytest.approx(0.5, abs=0.01)
        assert areas[1].vertices[:, 0].min() == pytest.approx(0.5, abs=0.01)

    def test_of_several_units_a_line_for_each(self) -> None:
        network = nn.Network((2, 2))
        ax = nn.plots.decision_boundary(network, [(8 * np.eye(2), np.full((2, 1), -4.0))], *XOR[:1], np.ones((2, 4)))
        lines = [c for c in ax.collections if list(getattr(c, "levels", ())) == [0.5]]
        spans = [np.ptp(np.concatenate([path.vertices for path in line.get_paths()]), axis=0) for line in lines]
        assert [span.argmin() for span in spans] == [0, 1]  # the first line is upright, the second level

    @pytest.mark.parametrize("output", ["identity", "exp"])
    def test_of_values_the_shades_of_them(self, output) -> None:
        network, layers = half_plane(output, 1)
        ax = nn.plots.decision_boundary(network, layers, XOR[0], XOR[1])
        assert len(ax.figure.axes) == 2  # the second says which shade is which value

    def test_it_draws_where_it_is_told(self) -> None:
        _, axes = plt.subplots(1, 2)
        assert nn.plots.decision_boundary(*half_plane("sigmoid", 1), XOR[0], ax=axes[1]) is axes[1]
        assert not axes[0].collections

    @pytest.mark.parametrize(
        ("network", "words"),
        [(nn.Network((3, 1)), "n_x = 2"), (nn.Network((2, 2), output="identity"), "one unit")],
    )
    def test_what_has_none(self, network, words) -> None:
        with pytest.raises(ValueError, match=words):
            nn.plots.decision_boundary(network, network.init(), np.zeros((network.sizes[0], 2)))

    @pytest.mark.parametrize("classes", [3, 10, 11, 26])
    def test_each_class_has_a_colour_of_its_own(self, classes) -> None:
        network, labels = nn.Network((2, classes), output="softmax"), np.arange(classes)
        X = np.stack([labels, labels**2]).astype(float)
        ax = nn.plots.decision_boundary(network, network.init(), X, nn.one_hot(labels, classes))
        areas, shown = ax.collections[0], ax.collections[-1]
        colours = {tuple(shown.to_rgba(k)) for k in shown.get_array()}
        assert len(colours) == classes
        for k in labels:  # areas and examples have the same ones
            np.testing.assert_allclose(areas.to_rgba(k)[:3], shown.to_rgba(k)[:3])

    def test_each_combination_of_labels_has_a_colour_of_its_own(self) -> None:
        network = nn.Network((2, 4))
        Y = np.array([[k >> unit & 1 for k in range(16)] for unit in range(4)], dtype=float)
        X = np.random.default_rng(0).normal(size=(2, 16))
        shown = nn.plots.decision_boundary(network, network.init(), X, Y).collections[-1]
        assert len({tuple(shown.to_rgba(k)) for k in shown.get_array()}) == 16

    def test_examples_that_all_lie_on_a_line(self) -> None:
        nn.plots.decision_boundary(*half_plane("sigmoid", 1), [[0.0, 1.0], [3.0, 3.0]], [[0.0, 1.0]])


class TestCurves:
    def test_of_several_runs_on_one_picture(self) -> None:
        runs = {f"{a}": nn.train(nn.Network((2, 1)), *XOR, epochs=4, optimizer=nn.Adam(a)) for a in (0.1, 0.01)}
        ax = nn.plots.cost_curves(runs | {"again": runs["0.1"].history})
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0.1", "0.01", "again"]
        for line, run in zip(ax.lines, runs.values(), strict=False):
            assert line.get_ydata().tolist() == run.history.columns()["cost"]
        assert nn.plots.cost_curves(runs["0.1"], ax=ax) is ax

    def test_of_one_run_and_of_what_it_does_not_know(self) -> None:
        result = nn.train(nn.Network((2, 1)), *XOR, epochs=3)
        assert nn.plots.cost_curves(result, curve="learning_rate").get_legend() is None
        assert len(nn.plots.cost_curves(result, curve="validation_cost").lines) == 0
        with pytest.raises(ValueError, match=r"'validation_score'.*'loss'"):
            nn.plots.cost_curves(result, curve="loss")

    def test_of_schedules(self) -> None:
        ax = nn.plots.learning_rates({"fixed": nn.schedules.Constant(0.1), "own": lambda t: 1 / (1 + t)}, 3)
        assert [line.get_ydata().tolist() for line in ax.lines] == [[0.1] * 3, [1, 1 / 2, 1 / 3]]


class TestWeights:
    def test_each_unit_is_an_image_and_nothing_is_white(self, space) -> None:
        W = np.arange(24.0).reshape(4, 6) - 9
        image = nn.plots.weight_images(space.asarray(W), (2, 3)).images[0]
        shown = np.asarray(image.get_array())
        np.testing.assert_array_equal(shown[:2, :3], W[0].reshape(2, 3))
        np.testing.assert_array_equal(shown[3:, 4:], W[3].reshape(2, 3))
        assert image.get_clim() == (-14, 14)

    def test_a_shape_of_another_layer(self) -> None:
        with pytest.raises(ValueError, match=r"\(n, 6\), got \(4, 5\)"):
            nn.plots.weight_images(np.zeros((4, 5)), (2, 3))


class TestGallery:
    def test_a_search_draws_each_power_of_ten_alike_often(self) -> None:
        pytest.importorskip("sklearn")
        module = import_module("nnarray.examples.random_search")
        assert module.OneMinus(module.SCALES["drawn uniformly"][1]).rvs(random_state=0) > 0.89
        found = module.search(*module.SCALES["drawn log-uniformly"], 30, 1).cv_results_["params"]
        powers = np.floor(np.log10([[trial["learning_rate_init"], 1 - trial["beta_1"]] for trial in found]))
        for column, expected in zip(powers.T, (range(-4, 0), range(-3, -1)), strict=True):
            counts = [(column == power).sum() for power in expected]
            assert sum(counts) == 30
            assert min(counts) >= 30 / len(counts) / 3

    def test_every_example_is_in_the_list(self) -> None:
        assert set(SMALL) == set(examples.NAMES)

    @pytest.mark.parametrize("name", examples.NAMES)
    def test_it_draws(self, name, tmp_path) -> None:
        module = import_module(f"nnarray.examples.{name}")
        assert f"]({name}.png)" in module.__doc__
        module.draw(**SMALL[name]).savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

    def test_one_runs_by_its_name(self, tmp_path) -> None:
        command = [sys.executable, "-m", "nnarray.examples.gradient_checking"]
        subprocess.run(command, cwd=tmp_path, check=True, env=os.environ | {"MPLBACKEND": "Agg"})
        assert (tmp_path / "gradient_checking.png").exists()

    @pytest.mark.parametrize("name", ["flower", "moons"])
    @pytest.mark.parametrize("m", [2, 61, 100])
    def test_there_are_as_many_examples_as_were_asked_for(self, name, m) -> None:
        X, Y = getattr(import_module("nnarray.examples.data"), name)(m)
        assert (X.shape, Y.shape) == ((2, m), (1, m))
        assert Y.sum() == m // 2

    def test_four_hidden_units_divide_the_flower_and_a_line_does_not(self) -> None:
        X, Y = import_module("nnarray.examples.data").flower()
        assert (X.shape, Y.shape) == ((2, 400), (1, 400))
        scores = {}
        for network in (nn.Network((2, 1)), nn.Network((2, 4, 1), hidden="tanh")):
            result = nn.train(network, X, Y, optimizer=nn.GradientDescent(0.6), epochs=1500)
            scores[network] = network.score(result.params, X, Y)
        line, hidden = scores.values()
        assert line < 0.6
        assert hidden > 0.85

    def test_gradient_checking_tells_the_wrong_sign(self) -> None:
        module = import_module("nnarray.examples.gradient_checking")
        X, Y = import_module("nnarray.examples.data").moons(20)
        network = nn.Network((2, 3, 1), hidden="tanh")
        right, wrong = (nn.check_gradients(network, network.init(), X, Y, cost=cost) for cost in module.COSTS.values())
        assert right.relative_difference < 1e-7
        assert wrong.relative_difference > 0.1

    def test_from_zeros_all_hidden_units_stay_equal(self) -> None:
        X, Y = import_module("nnarray.examples.data").flower(60)
        params = nn.train(nn.Network((2, 4, 1), hidden="tanh"), X, Y, scheme="zeros", epochs=20).params
        assert (params[0].W[0] == params[0].W).all()


@pytest.mark.parametrize("runs", [[1.0, 0.5], {"a": [1.0, 0.5]}, None], ids=str)
def test_what_is_no_run_has_no_curves(runs: Any) -> None:
    with pytest.raises(TypeError, match="runs must be a History, a TrainingResult or a mapping"):
        nn.plots.cost_curves(runs)
