"""What an unknown keyword may stand for: the names that other libraries and the course give to nnarray's arguments."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import NamedTuple


class Meaning(NamedTuple):
    """One argument of a network, an optimiser, training or an estimator."""

    names: tuple[str, ...]
    """nnarray's, scikit-learn's where estimators have that, and others'"""
    written: str
    """how nnarray writes it"""
    note: str = ""


def _meant(names: str, written: str, note: str = "") -> Meaning:
    return Meaning(tuple(names.split()), written, note)


MEANINGS = (
    _meant("learning_rate_init learning_rate lr alpha eta step_size lr_rate", "optimizer=nn.Adam(learning_rate=…)"),
    _meant("beta momentum rho decay", "optimizer=nn.Momentum(learning_rate, beta=…)"),
    _meant("beta1 beta_1 b1 betas", "optimizer=nn.Adam(learning_rate, beta1=…)"),
    _meant("beta2 beta_2 b2 betas", "optimizer=nn.Adam(learning_rate, beta2=…)"),
    _meant("eps epsilon", "optimizer=nn.Adam(learning_rate, eps=…)"),
    _meant("optimizer solver optim optimiser", "nn.train(…, optimizer=nn.Adam(learning_rate))"),
    _meant("epochs max_iter n_epochs num_epochs nb_epoch n_iter num_iterations max_epochs", "nn.train(…, epochs=…)"),
    _meant("batch_size batch minibatch_size mini_batch_size", "nn.train(…, batch_size=…)"),
    _meant("l2 alpha weight_decay lambd lambda_ lam reg l2_reg l2_penalty regularization", "nn.train(…, l2=…)"),
    _meant("l1 l1_reg l1_penalty", "nn.train(…, l1=…)"),
    _meant("dropout dropout_rate keep_prob", "nn.train(…, dropout=…)", "the share that is dropped, 1 - keep_prob"),
    _meant("weights sample_weight sample_weights", "nn.train(…, weights=…)"),
    _meant(
        "cost loss loss_fn criterion objective",
        "nn.train(…, cost=nn.Cost(…))",
        "the network's output= chooses a usual one",
    ),
    _meant("validation validation_data validation_set eval_set val_data", "nn.train(…, validation=(X, Y))"),
    _meant("validation_fraction validation_split", "nn.train(…, validation=(X, Y))", "examples that were set aside"),
    _meant("patience n_iter_no_change early_stopping", "nn.train(…, patience=…)", "in epochs"),
    _meant("min_delta tol", "nn.train(…, min_delta=…)"),
    _meant("callback callbacks", "nn.train(…, callback=…)", "one function of an Epoch"),
    _meant("progress verbose print_cost show_progress", "nn.train(…, progress=…)"),
    _meant("seed random_state random_seed rng key", "nn.train(…, seed=…)"),
    _meant("scheme initialization initialisation initializer init", "network.init(seed, scheme=…)"),
    _meant("backend device", "nn.train(…, backend=…)"),
    _meant("dtype precision", "nn.train(…, dtype=…)"),
    _meant("workers n_jobs num_workers num_threads n_threads", "nn.train(…, workers=…)"),
    _meant("state opt_state warm_start", "nn.train(…, state=result.state)"),
    _meant("params parameters weights0 coefs_init", "nn.train(…, params=…)"),
    _meant(
        "sizes hidden_layer_sizes layers layer_sizes layer_dims layers_dims hidden_sizes units", "nn.Network(sizes)"
    ),
    _meant("hidden activation activations", "nn.Network(sizes, hidden=…)"),
    _meant("output output_activation out_activation last_activation", "nn.Network(sizes, output=…)"),
    _meant("batch_norm batchnorm batch_normalization use_batch_norm", "nn.Network(sizes, batch_norm=True)"),
)
"""Every meaning once; of several names that a function has, the first is what is meant."""


def own_names(name: str, known: Collection[str]) -> list[str]:
    """Those of the names in `known` that mean what `name` does, one for each meaning that it may have."""
    found = (
        next((one for one in meaning.names if one in known), None) for meaning in MEANINGS if name in meaning.names
    )
    return list(dict.fromkeys(one for one in found if one is not None))


def explanation(called: str, name: str, known: Collection[str]) -> str:
    """The message of a TypeError for an unknown keyword of the function `called`, whose keywords are `known`."""
    message = f"{called.removesuffix('.__init__')}() got an unexpected keyword argument {name!r}"
    meanings = [meaning for meaning in MEANINGS if name in meaning.names]
    if not meanings:
        close = get_close_matches(name, known, n=1)
        return f"{message}; did you mean {close[0]!r}?" if close else message
    written = [f"{one}=" for one in own_names(name, known)]
    written += [meaning.written for meaning in meanings if not any(one in known for one in meaning.names)]
    notes = "".join(f" ({meaning.note})" for meaning in meanings if meaning.note)
    return f"{message}; write {' or '.join(written)}{notes}"
