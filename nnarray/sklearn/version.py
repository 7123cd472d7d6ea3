"""The scikit-learn that nnarray.sklearn needs."""

from importlib.metadata import PackageNotFoundError, version

NEEDED = (1, 9)


def require_scikit_learn() -> None:
    """Raise ImportError where scikit-learn is missing or too old, with what was found."""
    needed = ".".join(map(str, NEEDED))
    try:
        found = version("scikit-learn")
    except PackageNotFoundError:
        msg = f"nnarray.sklearn needs scikit-learn ≥ {needed}, found none; it comes with the extra nnarray[sklearn]"
        raise ImportError(msg) from None
    if tuple(int(part) for part in found.split(".")[:2]) < NEEDED:
        msg = f"nnarray.sklearn needs scikit-learn ≥ {needed}, found {found}"
        raise ImportError(msg)
