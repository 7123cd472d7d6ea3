"""argparse with suggestions, one line per error, and help as wide as the terminal."""

import argparse
from collections.abc import Sequence
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, NoReturn

from nnarray.cli.errors import CommandError
from nnarray.cli.names import did_you_mean
from nnarray.cli.output import LONGEST, quoted, say
from nnarray.network.foreign import own_names


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, with a suggestion."""

    def error(self, message: str) -> NoReturn:
        """Raise CommandError."""
        if message.endswith("expected one argument"):
            option = message.removeprefix("argument ").split(":")[0]
            message += f"; one that begins with - is joined by =, as {option}=-x"
        msg = f"{message} (see {self.prog} --help)"
        raise CommandError(msg)

    def refuse(self, unknown: Sequence[str], words: Sequence[str]) -> NoReturn:
        """Raise CommandError for unrecognised arguments."""
        meant = ""
        options = [name for name in self._option_string_actions if name[1] == "-"]
        for word in unknown:
            option = word.split("=")[0]
            if option.startswith("--"):
                meant = meant or _other_word(option, options) or did_you_mean(option, options)
        sizes = several(words, "--hidden")
        if sizes:
            self.error(f"argument --hidden: several sizes go with commas: --hidden {','.join(sizes)}")
        self.error(f"unrecognized arguments: {_cut(' '.join(unknown))}{meant}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            meant = did_you_mean(str(value), choices)
            msg = f"invalid choice: {quoted(value)}{meant} (choose from {', '.join(map(repr, choices))})"
            raise argparse.ArgumentError(action, msg)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and arg_strings == ["--"]:  # --out=--, of which argparse makes nothing
            raise argparse.ArgumentError(action, "expected one argument, got '--'")
        return super()._get_values(action, arg_strings)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            say(message, end="", stream=file)


def _other_word(option: str, options: Sequence[str]) -> str:
    """The question whether an option was meant that other tools call like this; nothing where none is known."""
    words = {name[2:].replace("-", "_"): name for name in options}
    own = own_names(option[2:].replace("-", "_"), words)
    return f" (did you mean {' or '.join(quoted(words[word]) for word in own)}?)" if own else ""


def several(words: Sequence[str], option: str) -> list[str]:
    """The whole numbers after an option that takes one word, where there are several."""
    if option not in words:
        return []
    after = list(words[words.index(option) + 1 :])
    count = next((k for k, word in enumerate(after) if not word.isdigit()), len(after))
    return after[:count] if count > 1 else []


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class Help(argparse.HelpFormatter):
    """Help as wide as the terminal, and no wider than can be read; where that is narrow, below each option."""

    def __init__(self, prog: str) -> None:
        width = max(20, min(98, get_terminal_size().columns - 2))
        super().__init__(prog, max_help_position=24 if width > 60 else 6, width=width)

    def _format_usage(self, usage: str | None, *given: Any) -> str:
        """The usage, also one that was given, in lines of the width."""
        text = super()._format_usage(usage, *given)
        return text if usage is None else fill(text.rstrip(), self._width, subsequent_indent=" " * 7) + "\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs filled, but for one that has lines of its own."""
        width = min(width, 78)
        return "\n\n".join(
            one if "\n" in one else fill(one, width, initial_indent=indent, subsequent_indent=indent)
            for one in text.split("\n\n")
        )
