"""The project's tasks: `nox -s tests`, `emulated`, `lint`, `mutations`, `interrupts`, `soak`, `bench`, `gpu`, …"""

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "venv"


@nox.session
def tests(session: nox.Session) -> None:
    """The tests and the doctests; torch and JAX serve as oracles, other tools as clients."""
    session.install(".[test,clients]", "torch", "jax")
    session.run("pytest", "-n", "auto", *session.posargs)
    session.run("pytest", "--doctest-modules", "nnarray")


@nox.session
def emulated(session: nox.Session) -> None:
    """CuPy's tests on an emulated GPU: on Linux, with a C++ compiler."""
    session.install(".[test,emulator]")
    session.run("pytest", "-n", "auto", "-k", "cupy", *session.posargs, env={"NNARRAY_EMULATE_GPU": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff and mypy."""
    session.install(".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def mutations(session: nox.Session) -> None:
    """Break each equation of the core once and see the tests go red."""
    session.install(".[test]")
    session.run("python", "tests/mutations.py", *session.posargs)


@nox.session
def interrupts(session: nox.Session) -> None:
    """Interrupt public calls wherever a signal can come, at every line or instruction; kill runs and dask's workers."""
    session.install(".[test]")
    everything = {"NNARRAY_INTERRUPTS": "all", "NNARRAY_CHECKPOINTS": "all", "NNARRAY_WORKERS": "all"}
    files = [f"tests/test_{name}.py" for name in ("interrupts", "checkpoints", "dask_workers")]
    session.run("pytest", *files, *session.posargs, env=everything)


@nox.session
def soak(session: nox.Session) -> None:
    """Ten minutes of changing shapes: memory, descriptors and threads stay flat. `nox -s soak -- 3600` for an hour."""
    session.install(".", "torch", "jax")
    session.run("python", "tests/soak.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time nnarray beside its peers: `nox -s bench -- --workloads deep`."""
    session.install(".[bench]")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """On a machine with an NVIDIA GPU: the tests with cupy among the namespaces, then the GPU workloads as JSON."""
    session.install(".[test,bench,cuda13]")
    session.run("python", "-m", "bench.gpu", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML pages in docs/: guide, public names, examples with their pictures."""
    session.install(".[docs]")
    session.run("python", "tests/pages.py", "docs")
