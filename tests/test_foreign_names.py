"""Keywords of other libraries and of the course: a TypeError says nnarray's word, of estimators scikit-learn's."""

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnarray as nn
from nnarray.cli import main
from nnarray.network.foreign import MEANINGS

NETWORK = nn.Network((2, 3, 1))
PARAMS = NETWORK.init()
BATCH = np.ones((2, 4)), np.ones((1, 4))


def train(**given: Any) -> Any:
    return nn.train(NETWORK, *BATCH, **given)


def classifier(**given: Any) -> Any:
    from nnarray.sklearn import MLPClassifier

    return MLPClassifier(**given)


def regressor(**given: Any) -> Any:
    from nnarray.sklearn import MLPRegressor

    return MLPRegressor(**given)


@pytest.mark.parametrize(
    ("call", "name", "written"),
    [
        (train, "eta", "optimizer=nn.Adam(learning_rate=…)"),
        (train, "learning_rate", "optimizer=nn.Adam(learning_rate=…)"),
        (train, "alpha", "l2= or optimizer=nn.Adam(learning_rate=…)"),
        (train, "rho", "optimizer=nn.Momentum(learning_rate, beta=…)"),
        (train, "num_epochs", "epochs="),
        (train, "lambd", "l2="),
        (train, "sample_weight", "weights="),
        (train, "keep_prob", "dropout= (the share that is dropped, 1 - keep_prob)"),
        (train, "n_iter_no_change", "patience= (in epochs)"),
        (train, "activation", "nn.Network(sizes, hidden=…)"),
        (train, "verbose", "progress="),
        (nn.Network, "layers_dims", "sizes="),
        (lambda **given: nn.Network((2, 1), **given), "activations", "hidden="),
        (lambda **given: nn.Network((2, 1), **given), "l1", "nn.train(…, l1=…)"),
        (nn.Adam, "lr", "learning_rate="),
        (nn.RMSprop, "epsilon", "eps="),
        (nn.Nesterov, "momentum", "beta="),
        (nn.Adam, "betas", "beta1= or beta2="),
        (nn.GradientDescent, "weight_decay", "nn.train(…, l2=…)"),
        (NETWORK.init, "random_state", "seed="),
        (lambda **given: NETWORK.cost(PARAMS, *BATCH, **given), "l2_reg", "l2="),
        (lambda **given: NETWORK.gradients(PARAMS, *BATCH, **given), "sample_weights", "weights="),
        (lambda **given: nn.check_gradients(NETWORK, PARAMS, *BATCH, **given), "weight_decay", "l2="),
        (classifier, "lr", "learning_rate_init="),
        (classifier, "epochs", "max_iter="),
        (regressor, "l2", "alpha="),
        (regressor, "sizes", "hidden_layer_sizes="),
    ],
)
def test_the_word_here_is_said(call: Callable[..., Any], name: str, written: str) -> None:
    with pytest.raises(TypeError) as caught:
        call(**{name: 1})
    assert str(caught.value).endswith(f"got an unexpected keyword argument {name!r}; write {written}")


def test_other_keywords_are_python_s_matter() -> None:
    with pytest.raises(TypeError, match=r"^train\(\) got an unexpected keyword argument 'banana'$"):
        train(banana=1)
    with pytest.raises(TypeError, match=r"'batchsize'; did you mean 'batch_size'\?$"):
        train(batchsize=1)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'epochs'"):
        train()


def test_every_written_form_is_of_names_that_there_are() -> None:
    from nnarray.sklearn import MLPClassifier

    optimizers = nn.GradientDescent, nn.Momentum, nn.RMSprop, nn.Adam
    calls: tuple[Any, ...] = (nn.train, nn.Network, nn.Network.init, MLPClassifier, *optimizers)
    taken = {name for call in calls for name in inspect.signature(call).parameters}
    for meaning in MEANINGS:
        assert meaning.names[0] in taken
        assert taken & {word for word in taken if word in meaning.written}


def test_signatures_and_pickles_stay() -> None:
    assert list(inspect.signature(nn.Adam).parameters) == ["learning_rate", "beta1", "beta2", "eps"]
    assert list(inspect.signature(nn.Network).parameters) == ["sizes", "hidden", "output", "batch_norm"]
    assert pickle.loads(pickle.dumps(nn.Adam(0.2))) == nn.Adam(0.2)


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--lr", "'--learning-rate'"),
        ("--max-iter=3", "'--epochs'"),
        ("--weight-decay", "'--l2'"),
        ("--random-state", "'--seed'"),
        ("--hiden", "'--hidden'"),
    ],
)
def test_options_of_other_tools_are_known_from_the_shell(option: str, meant: str, capsys: Any) -> None:
    assert main(["train", "iris", option, "3"]) == 2
    assert f"(did you mean {meant}?)" in capsys.readouterr().err
