"""scikit-learn's own tests of its MLP, from the installed package, with nnarray's classes in the place of its own."""

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

pytestmark = [
    pytest.mark.filterwarnings("default"),  # they were not written to run with warnings as errors
]

IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"

PRIVATE = {
    "test_gradient": "calls _loss_grad_lbfgs, the private function that scikit-learn hands to SciPy",
}
"""Tests that reach into the implementation, with what they reach for."""


@pytest.fixture
def global_random_seed() -> int:
    """What scikit-learn's own configuration gives to its tests."""
    return 42


_path = Path(find_spec("sklearn.neural_network.tests.test_mlp").origin)
_source = _path.read_text(encoding="utf-8")
assert _source.count(IMPORT) == 1
exec(compile(_source.replace(IMPORT, IMPORT.replace("sklearn.neural_network", "nnarray.sklearn")), _path, "exec"))

for _name, _reason in PRIVATE.items():
    globals()[_name] = pytest.mark.xfail(reason=_reason, raises=AttributeError, strict=True)(globals()[_name])
