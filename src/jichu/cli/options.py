"""The options that several commands share, and the parser that tells what is wrong with them."""

from __future__ import annotations

import argparse
from typing import Any

from jichu.core.config import check, override
from jichu.core.errors import UsageError, nearest

Options = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """Usage errors in the form of all our errors, with the nearest option."""

    def error(self, message: str) -> Any:
        options = [o for action in _actions(self) for o in action.option_strings]
        words = [w for w in message.split() if w.startswith("--")]
        near = nearest(words[0].rstrip(":,"), options) if words and "unrecognized" in message else None
        if "invalid choice" in message and not words:
            found = message.split("'")[1]
            choices = [c for a in self._actions if a.choices for c in a.choices]
            message, near = f"unknown command {found!r}", nearest(found, choices)
        raise UsageError(message, expected=f"{self.prog} --help", nearest=near)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Of a parser and those below it: an unknown option of a command is told by the parser above."""
    found = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [a for below in action.choices.values() for a in _actions(below)]
    return found


def command(commands: Any, name: str, run: Any, about: str, example: str) -> argparse.ArgumentParser:
    """A command, with the options that all have. `run` gives its exit code, or nothing."""
    parser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run_verb=run)
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--debug", action="store_true", help="errors with their traceback")
    return parser


def add_set(parser: argparse.ArgumentParser, what: str = "any key, such as data.size=32") -> None:
    """Keys of the recipe."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def add_language(parser: argparse.ArgumentParser, of: str) -> None:
    """What people read."""
    parser.add_argument(
        "--language", metavar="NAME", help=f"of {of}, en or zh; that of the environment if not given"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """What is to be read."""
    parser.add_argument("data", help="a folder, a file, or sklearn:digits, iris, …")


def add_target(parser: argparse.ArgumentParser) -> None:
    """What is to be predicted."""
    about = "the column to predict; label, target, class or y if not given"
    parser.add_argument("--target", metavar="COLUMN", help=about)


def data_config(verb: str, options: Options, **given: Any) -> Any:
    """What the options say of the data."""
    from jichu.data.config import DataConfig

    tree = override({"path": options.data, **given}, [a.removeprefix("data.") for a in options.set])
    return check(DataConfig, tree, where=verb)
