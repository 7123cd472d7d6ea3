"""PyTorch's modules as networks, and networks as PyTorch's modules."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from array_api_compat import is_torch_namespace

from nnarray.backends import require_concrete
from nnarray.core.activations import LEAK
from nnarray.network import Network, Parameters
from nnarray.network.names import OutputName
from nnarray.network.network import require_network

if TYPE_CHECKING:
    import torch

LEFT_OUT = ("Identity", "Flatten", "Dropout", "AlphaDropout")
"""Modules that change nothing where a trained network predicts."""

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
"""From where on Softplus is the identity: where it rounds to it in float64, too."""

OUTPUTS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "Exp": "exp"}
"""The same of the outputs; `Exp` is the module that `to_torch` makes."""


def from_torch(module: Any, *, output: OutputName | None = None) -> tuple[Network, Parameters]:
    """The network that a `torch.nn` module is, and a copy of its parameters, on its device.

    Parameters
    ----------
    module : torch.nn.Linear or torch.nn.Sequential
        Linear layers with activations between them (ReLU, LeakyReLU, Tanh, Sigmoid, GELU, SiLU, Softplus, ELU, SELU,
        with PyTorch's own settings); sequences may hold sequences.
        Flatten, Identity and Dropout are left out, as a trained network predicts without them. A layer without a bias
        gets zeros.
    output : {'sigmoid', 'softmax', 'identity', 'exp'}, optional
        What the network predicts; left out, what the module's end says: Sigmoid, Softmax, or 'identity' for a Linear
        layer. Modules for PyTorch's losses on logits end in one: 'softmax' for CrossEntropyLoss, 'sigmoid' for
        BCEWithLogitsLoss, 'exp' for PoissonNLLLoss.

    Returns
    -------
    (Network, Parameters)
        `network.predict(params, X)` is `module(X.T).T`, with the output's function over it where `output` says one.

    Raises
    ------
    TypeError
        For a module whose equations are not a network's, naming it.
    ValueError
        For an `output` that contradicts the module's end.

    Examples
    --------
    >>> from torch.nn import Linear, Sequential, Tanh  # doctest: +SKIP
    >>> network, params = from_torch(Sequential(Linear(4, 8), Tanh(), Linear(8, 3)))  # doctest: +SKIP
    >>> network  # doctest: +SKIP
    Network(sizes=(4, 8, 3), hidden=('tanh',), output='identity')
    """
    linear, between = _layers_of(module)
    end = OUTPUTS.get(between[-1], "identity") if between[-1] is not None else "identity"
    if output not in (None, end) and between[-1] is not None:
        msg = f"output must be {end!r}, which the module ends in, or left out, got {output!r}"
        raise ValueError(msg)
    sizes = (linear[0].in_features, *(layer.out_features for layer in linear))
    hidden: Any = [HIDDEN["Identity" if name is None else name] for name in between[:-1]]
    network = Network(sizes, hidden=hidden, output=output or end)  # type: ignore[arg-type]
    return network, Parameters.from_layers([_pair(layer) for layer in linear])


def to_torch(network: Network, params: Any) -> "torch.nn.Sequential":
    """The network as a `torch.nn.Sequential` that takes examples as rows, and gives what `network.predict` does.

    Parameters
    ----------
    network : Network
        The architecture; one with batch normalisation becomes the plain one of `Network.folded`.
    params : Parameters or sequence of (W, b)
        They are copied; the module is of their dtype, and on their device where they are PyTorch's.

    Returns
    -------
    torch.nn.Sequential
        Linear layers, activations, and at its end Sigmoid, Softmax or Exp, of which an 'identity' output has none.

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
    network, params = network.folded(params) if network.batch_norm else (network, Parameters.from_layers(params))
    if params.sizes != network.sizes:
        msg = f"params must fit the network of sizes {network.sizes}, got sizes {params.sizes}"
        raise ValueError(msg)
    require_concrete("nn.to_torch", params=params.vector)
    device = params.backend.device if is_torch_namespace(params.backend.xp) else "cpu"
    modules: list[torch.nn.Module] = []
    for (W, b), name in zip(params, (*network.hidden, f"output {network.output}"), strict=True):
        n, n_prev = W.shape
        layer = torch.nn.Linear(n_prev, n, dtype=getattr(torch, params.dtype), device=device)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(params.backend.to_numpy(W)))
            layer.bias.copy_(torch.tensor(params.backend.to_numpy(b)[:, 0]))
        modules += [layer, *_modules(name)]
    return torch.nn.Sequential(*modules)


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


def _layers_of(module: Any) -> tuple[list[Any], list[str | None]]:
    """The linear layers, and the name of the activation after each, or None."""
    linear: list[Any] = []
    between: list[str | None] = []
    for part in _flat(module):
        name = type(part).__name__
        if name == "Linear":
            linear.append(part)
            between.append(None)
        elif name in LEFT_OUT:
            continue
        elif not linear or between[-1] is not None or not _is_activation(part):
            msg = f"module must be Linear layers with an activation that nnarray has after each, got {part} in it"
            raise TypeError(msg)
        else:
            between[-1] = f"{name} tanh" if getattr(part, "approximate", None) == "tanh" else name
    if not linear:
        msg = f"module must be a torch.nn.Linear or a Sequential with one, got {type(module).__name__}"
        raise TypeError(msg)
    wrong = [name for name in between[:-1] if name is not None and name not in HIDDEN]
    if wrong:
        msg = f"module has {wrong[0]} between layers, where nnarray has {', '.join(HIDDEN)}"
        raise TypeError(msg)
    if between[-1] is not None and between[-1] not in OUTPUTS:
        msg = f"module must end in a Linear layer, {', '.join(OUTPUTS)}, got {between[-1]}"
        raise TypeError(msg)
    return linear, between


def _flat(module: Any) -> Iterator[Any]:
    if type(module).__name__ != "Sequential":
        yield module
        return
    for part in module:
        yield from _flat(part)


def _is_activation(part: Any) -> bool:
    """Whether nnarray has this activation, with its settings."""
    name = type(part).__name__
    if name in SETTINGS:
        setting, value = SETTINGS[name]
        return bool(getattr(part, setting) == value)
    if name == "Softmax":
        return part.dim in (-1, 1)
    return name in {**HIDDEN, **OUTPUTS}


def _pair(layer: Any) -> tuple[Any, Any]:
    """W and b of a linear layer, as they are now."""
    import torch

    W = layer.weight.detach()
    b = torch.zeros(W.shape[0], dtype=W.dtype, device=W.device) if layer.bias is None else layer.bias.detach()
    return W, b[:, None]
