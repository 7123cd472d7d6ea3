"""The floors of the house, what importing costs, and what core may not do."""

import ast
import doctest
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nnarray as nn

PACKAGE = Path(nn.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = [path for path in MODULES if path.parent.name == "core"]
FLOORS = {"core": 1, "programs": 2, "backends": 3, "engine": 4, "network": 5, "training": 6}
"""Whatever is not named is on floor 7."""
HEAVY = ("torch", "jax", "cupy", "scipy", "sklearn", "matplotlib", "pandas", "tqdm", "safetensors", "array_api_strict")


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def floor(parts: tuple[str, ...]) -> int:
    return FLOORS.get(parts[0].removesuffix(".py"), 7)


def own_imports(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    """The parts below nnarray of every import of it, in functions too; () for the package itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        yield from (tuple(module.split(".")[1:]) for module in modules if module.split(".")[0] == "nnarray")


def violations(source: str, own_floor: int) -> list[tuple[str, ...]]:
    """The imports that reach up; only the faces of floor 7 may import the package as a whole."""
    return [parts for parts in own_imports(ast.parse(source)) if (floor(parts) if parts else 7) > own_floor]


def imports_of_modules() -> dict[str, set[str]]:
    """Of every module, those of nnarray that it imports when it runs."""
    modules = {".".join(("nnarray", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    found = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        asked = {".".join(("nnarray", *parts)) for parts in own_imports(tree)}
        found[name] = {one if one in modules else one.rpartition(".")[0] for one in asked} & modules.keys() - {name}
    return found


def compared_with(names: tuple[str, ...], path: Path) -> Iterator[int]:
    """The lines where something called `name` is compared with one of the names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            parts = list(ast.walk(node))
            constants = {part.value for part in parts if isinstance(part, ast.Constant)}
            if "name" in {getattr(part, "attr", "") for part in parts} and constants & set(names):
                yield node.lineno


def libraries(source: str) -> Iterator[str]:
    """The array libraries beside NumPy that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from {name.partition(".")[0] for name in names} & {"torch", "jax", "cupy"}


class TestFloors:
    @pytest.mark.parametrize("path", [p for p in MODULES if p != PACKAGE / "__init__.py"], ids=name_of)
    def test_a_module_imports_from_its_own_floor_or_lower_ones(self, path) -> None:
        own_floor = floor(path.relative_to(PACKAGE).parts)
        assert violations(path.read_text(encoding="utf-8"), own_floor) == []

    @pytest.mark.parametrize(
        ("source", "own_floor", "refused"),
        [
            ("from nnarray.backends import backend", 2, True),
            ("from nnarray.core import updates", 1, False),
            ("def f():\n    import nnarray.training.loop", 5, True),
            ("from nnarray.network import Network", 6, False),
            ("from nnarray import engine", 3, True),
            ("from nnarray import engine", 4, False),
            ("import nnarray", 6, True),
            ("import nnarray as nn", 7, False),
            ("from nnarray.files import save", 6, True),
            ("import numpy", 1, False),
        ],
    )
    def test_the_reader_of_imports_itself(self, source, own_floor, refused) -> None:
        assert bool(violations(source, own_floor)) == refused

    def test_no_two_files_import_each_other_by_whatever_way_round(self) -> None:
        """Imports in functions count; those for type checkers alone do not."""
        reached = {name: set(names) for name, names in imports_of_modules().items()}
        for middle, beyond in reached.items():
            for others in reached.values():
                if middle in others:
                    others.update(beyond)
        assert [name for name, others in reached.items() if name in others] == []

    def test_backends_are_asked_what_they_can_and_not_for_their_names(self, tmp_path) -> None:
        asked = [p for p in MODULES if "cli" not in p.parts]
        assert [(name_of(p), line) for p in asked for line in compared_with(nn.backends.BACKENDS, p)] == []
        wrong = tmp_path / "wrong.py"
        wrong.write_text('x = 1\nif place.backend.name in {"cupy", "jax"}:\n    x = 2\n')
        assert list(compared_with(nn.backends.BACKENDS, wrong)) == [2]

    def test_array_libraries_are_imported_by_their_backends_and_by_faces_alone(self) -> None:
        trees = PACKAGE / "network" / "pytrees.py"  # says to both what Parameters are as a tree
        between = [p for p in MODULES if 7 > floor(p.relative_to(PACKAGE).parts) != FLOORS["backends"] and p != trees]
        assert [(name_of(p), found) for p in between for found in libraries(p.read_text(encoding="utf-8"))] == []
        assert list(libraries("def f():\n    import jax.numpy as jnp\nfrom torch import nn\nimport numpy")) == [
            "torch",
            "jax",
        ]

    def test_every_floor_is_there(self) -> None:
        assert {path.relative_to(PACKAGE).parts[0] for path in MODULES} >= set(FLOORS)


def run(source: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NNARRAY_")}
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, env=environment | variables
    )
    return done.stdout


class TestImport:
    def test_of_the_package_alone_it_loads_nothing_else(self) -> None:
        loaded = run("import sys, nnarray; print(*sys.modules)").split()
        assert "numpy" not in loaded
        assert {name for name in loaded if name.startswith("nnarray")} == {"nnarray", "nnarray.starting"}

    def test_every_public_name_comes_on_its_first_use(self) -> None:
        source = "import nnarray as nn; print(*[name for name in dir(nn) if getattr(nn, name) is None]); nn.nothing"
        with pytest.raises(subprocess.CalledProcessError) as raised:
            run(source)
        assert raised.value.stdout.strip() == ""
        assert "AttributeError: module 'nnarray' has no attribute 'nothing'" in raised.value.stderr
        for name in ("backends", "core", "engine", "network", "plots", "programs", "schedules", "training"):
            run(f"import nnarray as nn; nn.{name}")
        for floor in ("engine", "network"):
            run(f"from nnarray.{floor} import *")

    def test_it_loads_no_array_library_besides_numpy_and_nothing_heavy(self) -> None:
        loaded = run("import sys; from nnarray import Network, train; import nnarray.core.updates; print(*sys.modules)")
        assert "numpy" in loaded.split()
        assert [name for name in HEAVY if name in loaded.split()] == []

    def test_ranks_and_chunks_are_loaded_where_there_are_some(self) -> None:
        loaded = run("import sys; from nnarray import Network; print(*sys.modules)").split()
        parts = ("engine.ranks", "engine.batch_norm_ranks", "engine.dask_tasks", "network.chunks", "training")
        assert [part for part in parts if f"nnarray.{part}" in loaded] == []

    @pytest.mark.parametrize(("names", "most"), [("Network", 0.55), ("Network, train", 0.75)])
    def test_it_takes_less_time_than_numpy_s(self, tmp_path, names: str, most: float) -> None:
        """Of the main thread, as threads of NumPy's BLAS still spin meanwhile; the first of eight rounds compiles."""
        source = "\n".join(
            [
                "from time import thread_time as now; start = now()",
                "import numpy; numpys = now() - start",
                f"from nnarray import {names}; print((now() - start) / numpys - 1)",
            ]
        )
        cache = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
        part = min(float(run(source, **cache)) for _ in range(8))
        print(f"importing {names} after numpy takes {part:.2f} of numpy's time")
        assert part < most


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def lines_of_code(function: ast.FunctionDef) -> int:
    """The lines of the body without the docstring; a signature of one argument per line is no code."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def calls(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            yield (called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")), node.lineno


class TestCore:
    def test_it_has_at_most_860_lines(self) -> None:
        assert len(CORE) >= 10
        assert 300 < sum(len(path.read_text(encoding="utf-8").splitlines()) for path in CORE) <= 860

    @pytest.mark.parametrize("path", CORE, ids=name_of)
    def test_its_functions_are_short(self, path) -> None:
        assert [f.name for f in functions(path) if lines_of_code(f) > 20] == []

    @pytest.mark.parametrize("path", CORE, ids=name_of)
    def test_it_never_looks_at_a_value(self, path) -> None:
        looking = {"float", "bool", "int", "item", "tolist", "__array__"}
        assert [call for call in calls(path) if call[0] in looking] == []

    @pytest.mark.parametrize("path", CORE, ids=name_of)
    def test_it_uses_no_function_outside_the_standard(self, path) -> None:
        strict = pytest.importorskip("array_api_strict")
        used = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xp"
        }
        assert [name for name in used if name not in strict.__all__] == []

    @pytest.mark.parametrize("path", [p for p in CORE if p.name != "initial.py"], ids=name_of)
    def test_it_names_no_array_library(self, path) -> None:
        """initial.py draws on the host, with NumPy's generator."""
        imported = {
            alias.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module).split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert imported - sys.stdlib_module_names <= {"nnarray"}

    @pytest.mark.parametrize("path", CORE, ids=name_of)
    def test_every_function_says_what_it_is(self, path) -> None:
        assert [f.name for f in functions(path) if not ast.get_docstring(f) and f.name != "__call__"] == []


def module_names() -> list[str]:
    names = (".".join(("nnarray", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in MODULES)
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


class TestDocumentation:
    @pytest.mark.parametrize("name", nn.__all__)
    def test_public_names_have_docstrings(self, name) -> None:
        public = getattr(nn, name)
        assert (inspect.getdoc(public) or "").strip()
        if inspect.isclass(public):
            own = [n for n, v in vars(public).items() if inspect.isfunction(v) and not n.startswith("_")]
            assert [method for method in own if not inspect.getdoc(getattr(public, method))] == []

    def test_the_list_of_public_names_has_each_once(self) -> None:
        assert len(set(nn.__all__)) == len(nn.__all__)

    @pytest.mark.parametrize("name", module_names())
    def test_doctests(self, name) -> None:
        failed, _ = doctest.testmod(importlib.import_module(name))
        assert failed == 0

    @pytest.mark.parametrize(
        "public", [nn.Network, nn.Parameters, nn.History, nn.train, nn.check_gradients, nn.one_hot]
    )
    def test_what_a_user_meets_first_has_an_example(self, public) -> None:
        finder = doctest.DocTestFinder(recurse=False)
        assert sum(len(found.examples) for found in finder.find(public)) > 0
