"""The JSON that describes a model in its file, and the validation of everything in it.

    {"format": 1, "sizes": [4, 16, 3], "hidden": ["relu"], "output": "softmax",
     "classes": […], "features": […], "target": "…", "preprocessing": {"mean": […], "scale": […]}, "training": {…},
     "user": …}

The keys after "output" are optional, and so is "batch_norm", true where hidden layers have it; "user" is any JSON.
Format 1 is a network that takes a table's raw numbers, with "preprocessing" for information only; format 2 is one that
takes a table as encoded by the columns in "preprocessing" (see preprocessing.py), so that no reader of format 1
mistakes it for the other. Everything is validated on reading and on writing, by the same functions.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnarray.backends.reading import is_text, json_object, short
from nnarray.files.preprocessing import from_plain
from nnarray.network import Network

RAW, PREPARED = 1, 2
"""The formats: of a network that takes a table's numbers as they are, and of one that takes them prepared."""

REQUIRED = ("format", "sizes", "hidden", "output")

BATCH_NORM = "batch_norm"
"""The key that is true with batch normalisation and omitted without, so that older readers accept those files."""


def to_json(network: Network, metadata: Mapping[str, Any]) -> str:
    """The description of a network as strict JSON. Raises ValueError for metadata that a file cannot hold."""
    unknown = [key for key in metadata if key not in CHECKS]
    if unknown:
        msg = f"metadata may hold {', '.join(CHECKS)}, got {unknown[0]!r}"
        raise ValueError(msg)
    metadata = _plain(metadata)
    check_metadata(metadata, network)
    description = {
        "format": PREPARED if is_prepared(metadata) else RAW,
        "sizes": list(network.sizes),
        "hidden": list(network.hidden),
        "output": network.output,
        **({BATCH_NORM: True} if network.batch_norm else {}),
        **metadata,
    }
    return json.dumps(description, allow_nan=False, ensure_ascii=False)


def from_json(text: str) -> tuple[Network, dict[str, Any]]:
    """The network and the metadata of a description. Raises ValueError for everything that `to_json` cannot write."""
    description = json_object(text)
    _check_keys(description)
    _check_format(description["format"])
    network = _network(description)
    metadata = {key: value for key, value in description.items() if key not in (*REQUIRED, BATCH_NORM)}
    check_metadata(metadata, network)
    if (description["format"] == PREPARED) != is_prepared(metadata):
        msg = f"its format {description['format']} does not go with its preprocessing"
        raise ValueError(msg)
    return network, metadata


def is_prepared(metadata: Mapping[str, Any]) -> bool:
    """Whether the network takes a table as encoded by "preprocessing", rather than its raw numbers."""
    return "columns" in metadata.get("preprocessing", {})


def _check_keys(description: dict[str, Any]) -> None:
    missing = [key for key in REQUIRED if key not in description]
    unknown = [key for key in description if key not in (*REQUIRED, BATCH_NORM, *CHECKS)]
    if missing or unknown:
        msg = f"its description lacks {missing}" if missing else f"its description has unknown keys {short(unknown)}"
        raise ValueError(msg)


def _check_format(version: Any) -> None:
    if type(version) is not int:
        msg = f'"format" must be a whole number, got {short(version)}'
        raise ValueError(msg)
    if version not in (RAW, PREPARED):
        msg = f"its format is {short(version)}, this version of nnarray reads the formats {RAW} and {PREPARED}"
        raise ValueError(msg)


def _network(description: dict[str, Any]) -> Network:
    sizes, hidden, output = (description[key] for key in ("sizes", "hidden", "output"))
    _require(
        isinstance(sizes, list) and all(type(n) is int and n > 0 for n in sizes), "sizes", "whole numbers ≥ 1", sizes
    )
    _require(isinstance(hidden, list) and all(type(name) is str for name in hidden), "hidden", "names", hidden)
    _require(isinstance(output, str), "output", "a name", output)
    batch_norm = description.get(BATCH_NORM, False)
    _require(type(batch_norm) is bool, BATCH_NORM, "true or false", batch_norm)
    return Network(tuple(sizes), hidden=tuple(hidden), output=output, batch_norm=batch_norm)


def _plain(value: Any) -> Any:
    """Arrays and other sequences as lists, NumPy's scalars as Python's own."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value


def check_metadata(metadata: Mapping[str, Any], network: Network) -> None:
    """Raise ValueError for metadata that are not what their key says, or don't fit the network."""
    for key, value in metadata.items():
        CHECKS[key](value, network)
    if "features" in metadata:
        n = len(metadata["preprocessing"]["columns"]) if is_prepared(metadata) else network.sizes[0]
        features = metadata["features"]
        _require(len(features) == n, "features", f"a list of {n} names, one for each column", features)


def _check_classes(classes: Any, network: Network) -> None:
    expected = {"softmax": network.sizes[-1], "sigmoid": max(network.sizes[-1], 2)}.get(network.output)
    _require(expected is not None, "classes", f"absent for the output {network.output!r}", classes)
    _require(isinstance(classes, list) and len(classes) == expected, "classes", f"a list of {expected}", classes)
    kinds = {type(name) for name in classes}
    _require(
        len(kinds) == 1 and kinds <= {str, int, bool}, "classes", "all text, all whole numbers or all booleans", classes
    )
    _require(len(set(classes)) == len(classes), "classes", "different from each other", classes)
    _require(all(is_text(str(name)) for name in classes), "classes", "valid text", classes)


def _check_features(features: Any, _: Network) -> None:
    _require(isinstance(features, list), "features", "a list of names", features)
    _require(all(type(name) is str and is_text(name) for name in features), "features", "text", features)
    _require(len(set(features)) == len(features), "features", "different from each other", features)


def _check_target(target: Any, _: Network) -> None:
    _require(type(target) is str and is_text(target), "target", "text", target)


def _check_preprocessing(preprocessing: Any, network: Network) -> None:
    if isinstance(preprocessing, dict) and "columns" in preprocessing:
        n_x = from_plain(preprocessing).n_x
        _require(n_x == network.sizes[0], "preprocessing", f"of columns that make n_x = {network.sizes[0]}", n_x)
    else:
        _check_folded(preprocessing, network)


def _check_folded(preprocessing: Any, network: Network) -> None:
    n_x, n_L = network.sizes[0], network.sizes[-1]
    lengths = {"mean": n_x, "scale": n_x, "target_mean": n_L, "target_scale": n_L}
    known = isinstance(preprocessing, dict) and set(preprocessing) <= set(lengths)
    _require(known, "preprocessing", f"an object with some of {', '.join(lengths)}", preprocessing)
    for key, numbers in preprocessing.items():
        right = isinstance(numbers, list) and len(numbers) == lengths[key] and all(map(_is_finite, numbers))
        _require(right, key, f"a list of {lengths[key]} finite numbers", numbers)
        if key.endswith("scale"):
            _require(min(numbers) > 0, key, "positive", numbers)


def _check_user(user: Any, _: Network) -> None:
    _require(_is_json(user), "user", "of JSON: text, finite numbers, booleans, None, lists, and objects by text", user)


def _check_training(training: Any, _: Network) -> None:
    _require(isinstance(training, dict) and _is_json(training), "training", "an object of JSON", training)


CHECKS: dict[str, Callable[[Any, Network], None]] = {
    "classes": _check_classes,
    "features": _check_features,
    "target": _check_target,
    "preprocessing": _check_preprocessing,
    "user": _check_user,
    "training": _check_training,
}
"""The metadata that a file may hold, and the check of each."""


def _require(right: bool, key: str, expected: str, got: Any) -> None:
    if not right:
        msg = f'"{key}" must be {expected}, got {short(got)}'
        raise ValueError(msg)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and is_text(key) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    if type(value) is str:
        return is_text(value)
    return value is None or type(value) in (bool, int) or _is_finite(value)


def _is_finite(value: Any) -> bool:
    # an int beyond float's range is compared, not converted, so that it cannot overflow
    return type(value) in (int, float) and abs(value) <= 1.7976931348623157e308 and not math.isnan(value)
