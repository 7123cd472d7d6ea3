"""PyTorch's modules as networks, and networks as PyTorch's modules."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from array_api_compat import is_torch_namespace

from nnarray.backends import quiet, require_concrete
from nnarray.core import batch_norm
from nnarray.core.activations import LEAK
from nnarray.network import Network, NormalizedParameters, Parameters
from nnarray.network.entry import enter_normalized
from nnarray.network.names import OutputName
from nnarray.network.network import require_network

if TYPE_CHECKING:
    import torch

LEFT_OUT = ("Identity", "Flatten", "Dropout", "AlphaDropout")
"""Modules that have no effect in prediction."""

HIDDEN = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyReLU": "leaky_relu",
    "Identity": "identity",
    "GELU": "gelu",
    "GELU tanh": "gelu_tanh",
    "SiLU": "silu",
    "Softplus": "softplus",
    "ELU": "elu",
    "SELU": "selu",
}
"""PyTorch's names of the activations, and nnarray's."""

SETTINGS = {"LeakyReLU": ("negative_slope", LEAK), "Softplus": ("beta", 1.0), "ELU": ("alpha", 1.0)}
"""What these must be set to."""

SOFTPLUS_THRESHOLD = 40.0
"""The threshold above which Softplus is the identity: where it rounds to it in float64, too."""

LEAST_THRESHOLD = 20.0
"""PyTorch's own: with a lower one, Softplus is another function."""

OUTPUTS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "Exp": "exp"}
"""The same of the outputs; `Exp` is the module that `to_torch` makes."""


@quiet
def from_torch(module: Any, *, output: OutputName | None = None) -> tuple[Network, Parameters]:
    """The network of a `torch.nn` module, and a copy of its parameters, on its device.

    Parameters
    ----------
    module : torch.nn.Linear or torch.nn.Sequential
        Linear layers with activations between them (ReLU, LeakyReLU, Tanh, Sigmoid, GELU, SiLU, Softplus, ELU, SELU,
        with PyTorch's own settings); sequences may hold sequences.
        Flatten, Identity and Dropout are ignored, as they have no effect in prediction. A layer without a bias gets
        zeros. Where a BatchNorm1d follows every Linear layer but the last, before its activation, with PyTorch's eps,
        the network has batch normalisation, with its running averages; elsewhere (after an activation, before the first
        layer, after the last, after some layers only, with another eps) it is folded into an adjacent Linear layer, by
        its running averages.
    output : {'sigmoid', 'softmax', 'identity', 'exp'}, optional
        The network's output; by default by the last module: Sigmoid, Softmax, or 'identity' for a Linear layer.
        Modules for PyTorch's losses on logits end in a Linear layer: 'softmax' for CrossEntropyLoss, 'sigmoid' for
        BCEWithLogitsLoss, 'exp' for PoissonNLLLoss.

    Returns
    -------
    (Network, Parameters)
        `network.predict(params, X)` is `module(X.T).T` after `module.eval()`, followed by the output's function where
        `output` names one.

    Raises
    ------
    TypeError
        For a module whose equations are not a network's, naming it, such as a BatchNorm1d without running averages,
        one with forward hooks, and a class that is not torch.nn's own.
    ValueError
        For an `output` that contradicts the module's end.

    Examples
    --------
    >>> from torch.nn import Linear, Sequential, Tanh  # doctest: +SKIP
    >>> network, params = from_torch(Sequential(Linear(4, 8), Tanh(), Linear(8, 3)))  # doctest: +SKIP
    >>> network  # doctest: +SKIP
    Network(sizes=(4, 8, 3), hidden=('tanh',), output='identity')
    """
    parts = _layers_of(module)
    last = parts[-1].activation
    end = "identity" if last is None else OUTPUTS[last]
    if output not in (None, end) and last is not None:
        msg = f"output must be {end!r}, which the module ends in, or left out, got {output!r}"
        raise ValueError(msg)
    sizes = (parts[0].linear.in_features, *(part.linear.out_features for part in parts))
    hidden: Any = [HIDDEN[part.activation or "Identity"] for part in parts[:-1]]
    is_normalized = len(parts) > 1 and all(part.is_normalized for part in parts[:-1])
    network = Network(sizes, hidden, output or end, batch_norm=is_normalized)  # type: ignore[arg-type]
    if not is_normalized:
        return network, Parameters.from_layers([part.pair() for part in parts])
    *normalized, plain = parts
    layers, statistics = zip(*(part.normalized() for part in normalized), strict=True)
    params = NormalizedParameters.from_layers([*layers, plain.pair()])
    return network, network.parameters(params.vector, statistics=params.backend.primitives.join(statistics))


@quiet
def to_torch(network: Network, params: Any) -> "torch.nn.Sequential":
    """The network as a `torch.nn.Sequential` that takes examples as rows, and gives what `network.predict` does.

    Parameters
    ----------
    network : Network
        The architecture. With batch normalisation, the module has a BatchNorm1d after each hidden Linear layer, and is
        returned in evaluation mode, for prediction; call `module.train()` to train it further.
    params : Parameters or sequence of (W, b)
        They are copied; the module is of their dtype, and on their device where they are PyTorch's.

    Returns
    -------
    torch.nn.Sequential
        Linear layers, activations, and at its end Sigmoid, Softmax or Exp, or nothing for an 'identity' output.

    Examples
    --------
    >>> network = Network((2, 3, 1))
    >>> to_torch(network, network.init(seed=0))  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
      (2): Linear(in_features=3, out_features=1, bias=True)
      (3): Sigmoid()
    )
    """
    import torch

    require_network(network)
    params = enter_normalized(network, params) if network.batch_norm else Parameters.from_layers(params)
    if network.batch_norm:
        network.folded(params)  # without averages, it says so
    if params.sizes != network.sizes:
        msg = f"params must fit the network of sizes {network.sizes}, got sizes {params.sizes}"
        raise ValueError(msg)
    require_concrete("nn.to_torch", params=params.vector)
    device = params.backend.device if is_torch_namespace(params.backend.xp) else "cpu"
    made = {"dtype": getattr(torch, params.dtype), "device": device}

    def copied(V: Any) -> Any:
        return torch.tensor(params.backend.to_numpy(V))

    modules: list[torch.nn.Module] = []
    averages = getattr(params, "averages", ())
    for l, ((W, b, *gamma), name) in enumerate(zip(params, (*network.hidden, f"output {network.output}"), strict=True)):
        n, n_prev = W.shape
        # by itself it would draw weights, from the generator of all of PyTorch
        layer = torch.nn.utils.skip_init(torch.nn.Linear, n_prev, n, bias=not gamma, **made)
        shifting = torch.nn.BatchNorm1d(n, batch_norm.EPS, 1 - batch_norm.BETA, **made) if gamma else layer
        with torch.no_grad():
            layer.weight.copy_(copied(W))
            shifting.bias.copy_(copied(b)[:, 0])
            if gamma:
                shifting.weight.copy_(copied(gamma[0])[:, 0])
                shifting.running_mean.copy_(copied(averages[l].mean)[:, 0])
                shifting.running_var.copy_(copied(averages[l].variance)[:, 0])
        modules += [layer, *([shifting] if gamma else []), *_modules(name)]
    module = torch.nn.Sequential(*modules)
    return module.eval() if network.batch_norm else module


def _modules(name: str) -> Sequence[Any]:
    """The module of an activation, or of an output, if it has one."""
    import torch

    make: dict[str, Callable[[], Any]] = {
        "relu": torch.nn.ReLU,
        "tanh": torch.nn.Tanh,
        "sigmoid": torch.nn.Sigmoid,
        "leaky_relu": lambda: torch.nn.LeakyReLU(LEAK),
        "identity": torch.nn.Identity,
        "gelu": torch.nn.GELU,
        "gelu_tanh": lambda: torch.nn.GELU(approximate="tanh"),
        "silu": torch.nn.SiLU,
        "softplus": lambda: torch.nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
        "elu": torch.nn.ELU,
        "selu": torch.nn.SELU,
        "output sigmoid": torch.nn.Sigmoid,
        "output softmax": lambda: torch.nn.Softmax(dim=-1),
        "output exp": exp_module(),
    }
    if name == "output identity":
        return ()
    if name not in make:
        msg = f"PyTorch has no module for {name!r} here"
        raise TypeError(msg)
    return (make[name](),)


@lru_cache(maxsize=1)
def exp_module() -> Any:
    """The class of the module e^Z, which PyTorch lacks; a name of this file, so that pickle finds it."""
    import torch

    class Exp(torch.nn.Module):  # type: ignore[misc]
        """e^Z."""

        def forward(self, Z: Any) -> Any:
            """e^Z."""
            return torch.exp(Z)

    Exp.__module__, Exp.__qualname__ = __name__, "Exp"
    return Exp


def __getattr__(name: str) -> Any:
    if name == "Exp":
        return exp_module()
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


@dataclass
class _Dense:
    """A Linear layer with the batch normalisations before and behind it, and the activation after these."""

    linear: Any
    before: list[Any]
    behind: list[Any] = field(default_factory=list)
    activation: str | None = None

    @property
    def is_normalized(self) -> bool:
        """Whether this is a hidden layer of a network with batch normalisation."""
        return len(self.behind) == 1 and self.behind[0].eps == batch_norm.EPS

    def pair(self) -> tuple[Any, Any]:
        """W and b with all normalisations folded in."""
        W, b = self._product()
        for normalization in self.behind:
            scale, shift = _line_of(normalization)
            W, b = scale[:, None] * W, scale * b + shift
        dtype = self.linear.weight.dtype
        return W.to(dtype), b.to(dtype)[:, None]

    def normalized(self) -> tuple[tuple[Any, Any, Any], tuple[Any, Any]]:
        """(W, beta, gamma), and the averages of W A_prev: PyTorch's are of W A_prev + b."""
        import torch

        (W, b), (one,) = self._product(), self.behind
        ones = torch.ones_like(one.running_var)
        gamma, beta = (ones, 0 * ones) if one.weight is None else (one.weight.detach(), one.bias.detach())
        dtype, mean = self.linear.weight.dtype, one.running_mean.double() - b
        columns = [V.to(dtype, copy=True)[:, None] for V in (beta, gamma, mean, one.running_var)]
        return (W.to(dtype), *columns[:2]), (columns[2], columns[3])

    def _product(self) -> tuple[Any, Any]:
        """W and b with what comes before folded in; in float64 where anything is folded."""
        import torch

        W, b = self.linear.weight.detach(), self.linear.bias
        b = torch.zeros_like(W[:, 0]) if b is None else b.detach()
        if self.before or self.behind:
            W, b = W.double(), b.double()
        for normalization in reversed(self.before):
            scale, shift = _line_of(normalization)
            W, b = W * scale, b + W @ shift
        return W, b


def _line_of(normalization: Any) -> tuple[Any, Any]:
    """The scale and the shift of a BatchNorm1d with its running averages, in float64."""
    scale = 1 / (normalization.running_var.double() + normalization.eps).sqrt()
    if normalization.weight is not None:
        scale = normalization.weight.detach().double() * scale
    shift = -normalization.running_mean.double() * scale
    return scale, shift if normalization.bias is None else shift + normalization.bias.detach().double()


def _layers_of(module: Any) -> list[_Dense]:
    """The linear layers, with what belongs to each."""
    layers: list[_Dense] = []
    before: list[Any] = []
    for part in _flat(module):
        name = type(part).__name__
        if name == "Linear":
            layers.append(_Dense(part, before))
            before = []
        elif name == "BatchNorm1d":
            _require_averages(part)
            (layers[-1].behind if layers and layers[-1].activation is None and not before else before).append(part)
        elif name in LEFT_OUT:
            continue
        elif not layers or before or layers[-1].activation is not None or not _is_activation(part):
            msg = f"module must be Linear layers with an activation that nnarray has after each, got {part} in it"
            raise TypeError(msg)
        else:
            layers[-1].activation = f"{name} tanh" if getattr(part, "approximate", None) == "tanh" else name
    if not layers:
        msg = f"module must be a torch.nn.Linear or a Sequential with one, got {type(module).__name__}"
        raise TypeError(msg)
    _require_fit(layers, before)
    _require_names([layer.activation for layer in layers])
    for part in _flat(module):
        _require_plain(part)
    return layers


def _require_averages(normalization: Any) -> None:
    if normalization.running_mean is None or normalization.running_var is None:
        msg = (
            f"module must predict by running averages, got {normalization}, which takes those of each batch "
            "(track_running_stats=False)"
        )
        raise TypeError(msg)


def _require_fit(layers: list[_Dense], behind: list[Any]) -> None:
    """Raise TypeError for a BatchNorm1d behind the last activation, and for one of another size than its layer."""
    if behind:
        msg = f"module must not end in {behind[0]} behind its last activation: no Linear layer comes that it folds into"
        raise TypeError(msg)
    widths = [(layer.linear.in_features, layer.linear.out_features) for layer in layers]
    of_each = [(layer.before, n_prev) for layer, (n_prev, _) in zip(layers, widths, strict=True)]
    of_each += [(layer.behind, n) for layer, (_, n) in zip(layers, widths, strict=True)]
    wrong = [one for some, n in of_each for one in some if one.num_features != n]
    if wrong:
        msg = f"module must be layers whose sizes fit each other, got {wrong[0]} beside a Linear layer of another size"
        raise TypeError(msg)


def _require_names(names: list[str | None]) -> None:
    """Raise TypeError for activations that are no hidden layer's, or at the end no output's."""
    *between, last = names
    wrong = [name for name in between if name is not None and name not in HIDDEN]
    if wrong:
        msg = f"module has {wrong[0]} between layers, where nnarray has {', '.join(HIDDEN)}"
        raise TypeError(msg)
    if last is not None and last not in OUTPUTS:
        msg = f"module must end in a Linear layer, {', '.join(OUTPUTS)}, got {last}"
        raise TypeError(msg)


def _require_plain(part: Any) -> None:
    """Raise TypeError for a class of another's with a name of PyTorch's, and for hooks: both may compute anything."""
    own = type(part).__module__
    if not own.startswith("torch.nn.modules.") and own != __name__:
        msg = f"module must be of torch.nn's own classes, got {type(part).__name__} of {own}"
        raise TypeError(msg)
    if part._forward_hooks or part._forward_pre_hooks:
        msg = (
            f"module must have no forward hooks, which may change what it computes, got one on {part}: remove it "
            "first, as its handle's remove(), torch.nn.utils.prune.remove(…) and remove_spectral_norm(…) do"
        )
        raise TypeError(msg)


def _flat(module: Any) -> Iterator[Any]:
    if type(module).__name__ != "Sequential":
        yield module
        return
    _require_plain(module)
    for part in module:
        yield from _flat(part)


def _is_activation(part: Any) -> bool:
    """Whether nnarray has this activation, with its settings."""
    name = type(part).__name__
    if name == "Softplus" and part.threshold < LEAST_THRESHOLD:
        return False
    if name in SETTINGS:
        setting, value = SETTINGS[name]
        return bool(getattr(part, setting) == value)
    if name == "Softmax":
        return part.dim in (-1, 1)
    return name in {**HIDDEN, **OUTPUTS}
