"""The documentation as pages: `python tests/pages.py FOLDER` fails for a warning of pdoc's or a name without a word.

The pictures of the examples are drawn first. `nox -s docs` runs this where all is installed that the pages speak of.
"""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import pdoc
from pdoc import doc

import nnarray
from nnarray.examples import NAMES
from nnarray.examples.__main__ import draw

MODULES = ("guide", "core", "training", "training.schedules", "sklearn", "examples", "onnx", "cli")
PAGES = ("nnarray", *(f"nnarray.{name}" for name in MODULES), r"!nnarray\.cli\..*")

CSS = """
img { max-width: 100% }
.docstring { overflow-wrap: anywhere }
.docstring code { white-space: break-spaces }
.docstring table { display: block; overflow-x: auto; overflow-wrap: normal }
.decorator-explained, .decorator-with_explained_init, .decorator-quiet { display: none }
.decorator-available_where, .decorator-by_parts, .decorator-fits { display: none }
@media (max-width: 770px) { .modulename { padding-right: 4rem; overflow-wrap: anywhere } }
"""
"""Nothing is wider than a small screen, and decorators that change no call are not shown."""


def without_a_word(members: list[doc.Doc], around: str = "") -> Iterator[str]:
    """The public names that no page says anything of, where a class may say it of its fields.

    The constants of core, which its functions and comments explain, are on no page.
    """
    for member in members:
        is_constant_of_core = isinstance(member, doc.Variable) and member.modulename.startswith("nnarray.core.")
        if member.name.startswith("_") or isinstance(member, doc.Module) or is_constant_of_core:
            continue
        if not member.docstring.strip() and not (isinstance(member, doc.Variable) and member.name in around):
            yield member.fullname
        if isinstance(member, doc.Class):
            yield from without_a_word(member.own_members, member.docstring)


def own_members(described: doc.Class) -> list[doc.Doc]:
    """What the page of a class describes: its members, and what it inherits within nnarray.

    Their bases have no page of their own where nobody needs their names; pdoc would only name what is inherited.
    """
    own = {(described.modulename, described.qualname), described.taken_from}
    return [
        member
        for base, members in described._members_by_origin.items()
        for member in members
        if base in own or (base[0].startswith("nnarray") and (isinstance(member, doc.Function) or member.docstring))
    ]


def broken_links(folder: Path) -> Iterator[str]:
    """The links within a page to what it does not have."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        known = set(re.findall(r'\bid="([^"]+)"', text))
        yield from (f"{page.name}: no #{name}" for name in set(re.findall(r'href="#([\w.]+)"', text)) - known)


def main(folder: Path) -> None:
    folder = folder.absolute()
    mpl.use("Agg")
    for name in NAMES:
        draw(name, folder / "nnarray" / "examples")
    for name in nnarray.__all__:
        getattr(nnarray, name)  # what is loaded on its first use is seen by pdoc only then
    # pdoc warns of a folder named nnarray beside the installed package, and runs from elsewhere for that.
    with TemporaryDirectory() as templates, chdir(templates), warnings.catch_warnings(record=True) as caught:
        Path(templates, "custom.css").write_text(CSS)
        pdoc.render.configure(
            docformat="numpy", math=True, include_undocumented=False, template_directory=Path(templates)
        )
        doc.Class.own_members = property(own_members)
        pdoc.pdoc(*PAGES, output_directory=folder)
        modules = [doc.Module(sys.modules[name]) for name in pdoc.extract.walk_specs(PAGES)]
    problems = [str(warning.message) for warning in caught if "torch" not in str(warning.message)]
    blank = {name for module in modules for name in without_a_word(module.members.values())}
    problems += [f"without a word: {name}" for name in sorted(blank)]
    problems += sorted(broken_links(folder))
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
