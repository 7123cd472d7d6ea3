"""Saving and loading a network with its parameters."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save as safetensors_bytes

from nnarray.backends import Backend, quiet, require_concrete
from nnarray.backends import backend as choose_backend
from nnarray.backends.atomic import write_atomically
from nnarray.backends.reading import ModelFileError, is_text, read_as, require_folder, short
from nnarray.core import vector
from nnarray.core.typing import Pairs
from nnarray.files.batch_norm import normalized_tensors
from nnarray.files.cells import as_numbers, marks_of_missing
from nnarray.files.description import is_prepared, to_json
from nnarray.files.formats import reading_hint, warn_of_ending
from nnarray.files.preprocessing import Preprocessing, columns_of, fold, folds_into_float32, from_plain, labels_of
from nnarray.files.tensors import ENTRY, read_tensors
from nnarray.files.unseen import warn_of_unseen
from nnarray.network import Network, Parameters
from nnarray.network.batch_norm import NormalizedParameters, enter, folded
from nnarray.network.entry import enter_normalized
from nnarray.network.names import DTypeName
from nnarray.network.network import require_network


def codes(A: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The predicted class 0, 1, … of each column of A[L]: the most probable one; for one unit, 1 where it is > 0.5."""
    return np.asarray(A.argmax(axis=0) if A.shape[0] > 1 else A[0] > 0.5, dtype="int64")


class Model(NamedTuple):
    """The contents of a model file."""

    network: Network
    params: Parameters
    metadata: dict[str, Any]
    """those of "classes", "features", "target", "preprocessing", "training", "user" and "entries" that the file has"""

    def __repr__(self) -> str:
        return f"Model({self.network!r}, {self.params!r}, metadata of {', '.join(self.metadata) or 'nothing'})"

    def _repr_html_(self) -> str:
        from nnarray.network.html import table

        texts = {name: repr(value) for name, value in self.metadata.items()}
        rows = [(name, text[:200] + "…" * (len(text) > 200)) for name, text in texts.items()]
        return self.network._repr_html_() + table(("metadata", ""), rows)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing from a table's columns to X; None where the network takes raw numbers."""
        return from_plain(self.metadata["preprocessing"]) if is_prepared(self.metadata) else None

    @property
    def classes(self) -> list[Any] | None:
        """The labels of the classes, 0, 1, … where the file has none; None for a network that is no classifier."""
        if self.network.output == "softmax":
            return list(self.metadata.get("classes", range(self.network.sizes[-1])))
        if self.network.output == "sigmoid" and self.network.sizes[-1] == 1:
            return list(self.metadata.get("classes", range(2)))
        return None

    @quiet
    def prepare(self, data: Any) -> Any:
        """The X (n_x, m) that the network takes, in the parameters' dtype and on their backend.

        Parameters
        ----------
        data : mapping, data frame, Arrow table, structured array, or array of shape (columns, m)
            The raw columns of a table, m values each: by name, or as rows. Scaling is done in float64, texts and dates
            are encoded as numbers, durations are seconds, and a missing cell (NaN, None, or a text that marked one in
            training) is filled as in training. A text that is no category counts as none of them, with a UserWarning;
            so do numbers far beyond all of training's, which may be in another unit.

        Returns
        -------
        array, shape (n_x, m)

        Raises
        ------
        ValueError, TypeError
            For columns that are not the model's.
        """
        preprocessing, params = self.preprocessing, self.params
        if preprocessing is not None:
            names, missing = self.metadata.get("features"), marks_of_missing(self.metadata)
            columns = columns_of(data, names, preprocessing)
            X = preprocessing.X(columns, params.dtype, names, missing)
            warn_of_unseen(preprocessing, X, columns, names, missing)
            return params.backend.asarray(X, params.dtype)
        labels = labels_of(data)
        if labels is not None:
            data = np.stack([as_numbers(data[name]) for name in self.metadata.get("features", labels)])
        return params.backend.asarray(data, params.dtype)

    @quiet
    def predict(self, data: Any) -> Any:
        """A[L] of a table's columns, in the target's own units.

        Parameters
        ----------
        data : mapping, data frame or array, shape (columns, m)
            As in `prepare`.

        Returns
        -------
        array, shape (n[L], m)
            float64 on the host where the target was scaled in training, else the parameters' dtype and backend.

        Raises
        ------
        ValueError, TypeError
            For columns that are not the model's.

        Examples
        --------
        >>> import tempfile
        >>> preprocessing = {"columns": [{"kind": "number", "mean": 2e11, "scale": 10.0, "fill": 2e11}]}
        >>> network = Network((1, 1), output="identity")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     metadata = {"features": ["minutes"], "preprocessing": preprocessing}
        ...     save(folder + "/model.safetensors", network, [([[1.0]], [[0.0]])], metadata=metadata)
        ...     model = read_model(folder + "/model.safetensors")
        >>> model.predict({"minutes": [2e11, 2e11 + 5]}).tolist()
        [[0.0, 0.5]]
        """
        A = self.network.predict(self.params, self.prepare(data))
        preprocessing = self.preprocessing
        if preprocessing is None or preprocessing.target is None:
            return A
        return preprocessing.answers(self.params.backend.to_numpy(A))

    @quiet
    def labels(self, data: Any) -> list[Any]:
        """The predicted class of each row of a table: the most probable one, or of two the second where A[L] > 0.5.

        Parameters
        ----------
        data : mapping, data frame or array, shape (columns, m)
            As in `prepare`.

        Returns
        -------
        list of str, int or float, length m
            As written in the table that the model was trained on.

        Raises
        ------
        ValueError, TypeError
            For columns that are not the model's, and for a network that doesn't tell classes.

        Examples
        --------
        >>> model = Model(Network((1, 1)), Network((1, 1)).parameters([1.0, 0.0]), {"classes": ["no", "yes"]})
        >>> model.labels([[-2.0, 3.0]])
        ['no', 'yes']
        """
        classes = self.classes
        if classes is None:
            msg = f"{self.network!r} doesn't tell classes; predict gives its numbers"
            raise ValueError(msg)
        A = self.params.backend.to_numpy(self.predict(data))
        return [classes[code] for code in codes(A)]

    @quiet
    def raw(self) -> tuple[Network, Parameters]:
        """The network that takes a table's raw numbers, and its parameters.

        Scaling is folded into the first layer and, of the target, into the last, in float64; so is batch normalisation,
        where there is scaling.

        Returns
        -------
        (Network, Parameters)
            The parameters in their own dtype, or float64 where float32 could not hold the scaling.

        Raises
        ------
        ValueError
            Where the model takes columns that are not numbers.
        """
        preprocessing, params = self.preprocessing, self.params
        if preprocessing is None:
            return self.network, params
        if self.network.batch_norm:
            plain, params = self.network.folded(params)
            return self._replace(network=plain, params=params).raw()
        pairs = fold([(params.backend.to_numpy(W), params.backend.to_numpy(b)) for W, b in params], preprocessing)
        network = Network(
            (len(preprocessing.columns), *self.network.sizes[1:]), self.network.hidden, self.network.output
        )
        dtype: DTypeName = "float32" if params.dtype == "float32" and folds_into_float32(preprocessing) else "float64"
        return network, network.parameters(Parameters.from_layers(pairs).vector, backend=params.backend, dtype=dtype)


@quiet
def save(
    path: str | os.PathLike[str], network: Network, params: Pairs, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a network and its parameters to one safetensors file.

    Parameters
    ----------
    path : path
        The file to write; an existing one is replaced atomically. The format is safetensors, whatever the
        name says: an ending of another one, such as .pt or .onnx, gives a UserWarning with what writes that.
    network : Network
        The architecture.
    params : Parameters or sequence of (W, b)
        W[l] (n[l], n[l-1]) and b[l] (n[l], 1) of any namespace; float64 stays float64, every other dtype becomes
        float32. Of a network with batch normalisation, NormalizedParameters with their averages: beside W1 and b1,
        which is beta, the file has gamma1, mean1 and variance1, ….
    metadata : mapping, optional
        "classes" (the names of the classes: all text, all whole numbers or both booleans), "features" (the columns'
        names), "target" (its name), "training" (of JSON) and "preprocessing", as lists or any other sequences and
        arrays. "preprocessing" is either "columns" and "target", what is to be done with a table before it enters the
        network (see `Model.prepare`), or "mean" and "scale", n_x numbers each, "target_mean" and "target_scale", n[L]
        numbers each: what was folded into W and b, for information. Further, "user", anything that JSON can say; and
        "entries", a mapping of text to text that is added to the file's own metadata, such as {"format": "pt"}. The
        metadata that `read_model` returns can be saved again.

    Raises
    ------
    TypeError
        For a `network` that is not a Network.
    ValueError
        If the parameters do not fit the network or are not finite, or for invalid metadata.
    OSError
        If the file cannot be written, naming `path`.

    Examples
    --------
    >>> import tempfile
    >>> network = Network((2, 3, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(folder + "/model.safetensors", network, network.init(seed=1))
    ...     again, params = load(folder + "/model.safetensors")
    >>> again == network
    True
    """
    require_network(network)
    path, metadata = os.fsdecode(path), dict(metadata or {})
    entries = _checked_entries(metadata.pop("entries", {}))
    text = to_json(network, metadata)
    theta, *statistics = _host_vectors(network, params)
    if statistics:
        tensors = normalized_tensors(theta, statistics[0], network.sizes)
    else:
        layers = vector.split(theta, network.sizes, xp=np)
        tensors = {name: V for l, (W, b) in enumerate(layers, 1) for name, V in ((f"W{l}", W), (f"b{l}", b))}
    require_folder(path)
    write_atomically(path, safetensors_bytes(tensors, metadata={**entries, ENTRY: text}))
    warn_of_ending(path)


def load(
    path: str | os.PathLike[str], backend: str | Backend | None = None, *, network: Network | None = None
) -> tuple[Network, Parameters]:
    """The network and the parameters in a model file.

    They take a table's raw numbers: the scaling of inputs and target that `nnarray train` stores beside a network is
    folded into the first and the last layer, in float64. The parameters are float64 where float32 would lose precision
    (numbers far from zero relative to their spread); pass float64 data to such a network.

    Parameters
    ----------
    path : path
        The file.
    backend : str or Backend, optional
        The backend of the parameters; by default as in `nn.backend`.
    network : Network, optional
        The architecture, with which files of other tools can be read, too: tensors W1, b1, …, WL, bL without a
        description, W[l] of shape (n[l], n[l-1]) and b[l] of (n[l], 1) or (n[l],), in float32, float64, float16 or
        bfloat16, of which the last two become float32. A file with a description must describe this network.

    Returns
    -------
    (Network, Parameters)

    Raises
    ------
    ModelFileError
        For a file with invalid contents.
    ValueError
        For a model that takes texts or dates, which `read_model(path).predict(table)` prepares.
    FileNotFoundError, IsADirectoryError, PermissionError
        As `open` does.
    BackendUnavailableError
        For a backend that cannot run here.
    TypeError
        For a network that is none.
    """
    model = read_model(path, backend, network=network)
    try:
        return model.raw()
    except ValueError as error:
        msg = f"{os.fsdecode(path)} cannot be a network of numbers alone: {error}; use read_model(path).predict(table)"
        raise ValueError(msg) from None


@quiet
def read_model(
    path: str | os.PathLike[str], backend: str | Backend | None = None, *, network: Network | None = None
) -> Model:
    """The network as it was trained, its parameters and the metadata in a model file.

    Parameters
    ----------
    path, backend, network
        As in `load`.

    Returns
    -------
    Model
        `read_model(path).predict(table)` prepares a table's columns as in training, texts and dates too.

    Raises
    ------
    ModelFileError, FileNotFoundError, IsADirectoryError, PermissionError, BackendUnavailableError, TypeError
        As `load` does.
    """
    chosen = choose_backend(backend)
    path = os.fsdecode(path)
    if network is not None:
        require_network(network)
    try:
        found, theta, metadata = read_as("model file", path, lambda path: read_tensors(path, network))
    except ModelFileError as error:
        msg = f"{error}{reading_hint(path)}"
        raise ModelFileError(msg) from None
    theta = chosen.asarray(theta, theta.dtype.name)
    if not found.batch_norm:
        return Model(found, Parameters(theta, found.sizes, chosen), metadata)
    return Model(found, NormalizedParameters(theta[: found.size], found.sizes, chosen, theta[found.size :]), metadata)


def _checked_entries(entries: Any) -> dict[str, str]:
    """Further entries of the file's metadata. Raises ValueError for what a file cannot hold."""
    right = isinstance(entries, Mapping) and all(
        type(V) is str and is_text(V) for pair in entries.items() for V in pair
    )
    if not right or ENTRY in entries:
        msg = f'"entries" must be text by text, without "{ENTRY}", got {short(entries)}'
        raise ValueError(msg)
    return dict(entries)


def _host_vectors(network: Network, params: Any) -> list[npt.NDArray[Any]]:
    """theta on the host, row by row: safetensors would scramble arrays of any other order.

    With batch normalisation, the averages beside it.
    """
    if network.batch_norm or isinstance(params, NormalizedParameters):
        params = enter_normalized(network, params)
        folded(params)  # without averages, it says so
    params = enter(params)
    if params.sizes != network.sizes:
        msg = f"params must fit the network of sizes {network.sizes}, got sizes {params.sizes}"
        raise ValueError(msg)
    require_concrete("nn.save", params=params.vector)
    given = [params.vector, *([params.statistics] if isinstance(params, NormalizedParameters) else [])]
    vectors = [params.backend.to_numpy(V) for V in given]
    if not all(np.isfinite(V).all() for V in vectors):
        msg = "params must be finite, got NaN or infinity"
        raise ValueError(msg)
    return vectors
