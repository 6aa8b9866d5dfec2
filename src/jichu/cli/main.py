"""`jichu VERB …`: one parser, one place where errors become messages and exit codes."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, get_origin

from pydantic.fields import FieldInfo

import jichu
from jichu.core.config import Spec, models_in
from jichu.core.errors import Interrupted, JichuError, PeerLost, UsageError, nearest
from jichu.core.interrupt import Stop, terminable, undisturbed
from jichu.recipe.config import STAGES

from . import adapters, language, verbs

_EXIT_CODES = "exit codes: 0 done; 2 wrong usage or recipe; 3 unusable data; 4 a check failed; 130 interrupted; 1 anything else"


class _Parser(argparse.ArgumentParser):
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


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="jichu",
        description="From raw data to a served, audited foundation model.",
        epilog=f"example: jichu run quickstart\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"jichu {jichu.__version__}")
    commands = top.add_subparsers(dest="verb", metavar="COMMAND", parser_class=_Parser)

    add = _add(commands, "run", verbs.run, "run a recipe", "jichu run quickstart --set data.path=photos")
    add.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
    add.add_argument("--resume", action="store_true", help="go on with the run of that name where it stopped")
    add.add_argument("--name", help="the run's name; the recipe's if not given")
    _add_set(add)

    add = _add(
        commands,
        "inspect",
        verbs.inspect,
        "say what data are and what of them cannot be used",
        "jichu inspect photos --page",
    )
    add.add_argument("data", help="a folder, a file, or sklearn:digits, iris, …")
    add.add_argument(
        "--augment", nargs="?", const="augment.png", metavar="FILE.png",
        help="draw what each augmentation does to the images; into augment.png if no file is given",
    )  # fmt: skip
    add.add_argument(
        "--page", nargs="?", const="inspect.html", metavar="FILE.html",
        help="show it on a page for the browser; inspect.html if no file is given",
    )  # fmt: skip
    _add_set(add, "data keys, such as size=32")

    add = _add(
        commands, "init", verbs.init, "write a recipe fitted to data",
        "jichu init photos && jichu run recipe.yaml",
    )  # fmt: skip
    add.add_argument("data", help="a folder, a file, or sklearn:digits, iris, …")
    add.add_argument(
        "-o", "--output", default="recipe.yaml", metavar="FILE.yaml", help="recipe.yaml if not given"
    )
    add.add_argument(
        "--target", metavar="COLUMN", help="the column to predict; label, target, class or y if not given"
    )
    add.add_argument("--force", action="store_true", help="replace the file if it is there")
    _add_set(add, "data keys, such as size=32")

    add = _add(
        commands,
        "pretrain",
        verbs.pretrain,
        "train a backbone without labels",
        "jichu pretrain photos --backbone resnet18 --budget 10m",
    )
    _add_stage(add, "pretrain")

    add = _add(
        commands,
        "finetune",
        verbs.finetune,
        "fit to labels and measure on held-out rows",
        "jichu finetune photos --from runs/pretrain --adapt head",
    )
    _add_stage(add, "finetune")
    add.add_argument(
        "--target", metavar="COLUMN", help="the column to predict; label, target, class or y if not given"
    )
    add.add_argument("--labels-per-class", type=int, metavar="N", help="use only N labels of each class")
    add.add_argument("--draws", type=int, metavar="N", help="repeat for N draws of those labels")

    add = _add(
        commands,
        "audit",
        verbs.audit,
        "measure a run's model, with intervals",
        "jichu audit runs/quickstart --data more-photos",
    )
    add.add_argument("run", help="a run folder")
    add.add_argument("--data", help="other data than the run's own held-out rows")

    add = _add(
        commands,
        "predict",
        verbs.predict,
        "label images, or predict the rows of a table",
        "jichu predict runs/quickstart runs/quickstart/examples/*.png",
    )
    add.add_argument("run", help="a run folder")
    add.add_argument("inputs", nargs="+", metavar="INPUT", help="image files, or tables whose rows are meant")

    add = _add(
        commands,
        "embed",
        verbs.embed,
        "write the features of data as Parquet",
        "jichu embed runs/quickstart --output digits.parquet",
    )
    add.add_argument("run", help="a run folder")
    add.add_argument("data", nargs="?", help="other data than the run's own")
    add.add_argument(
        "--output", metavar="FILE", default="embeddings.parquet", help="embeddings.parquet if not given"
    )

    add = _add(
        commands, "generate", language.generate, "go on with prompts", 'jichu generate runs/gpt "ROMEO:"'
    )
    add.add_argument("run", help="a run folder")
    add.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="texts to go on with; standard input if none"
    )
    add.add_argument("--file", action="append", default=[], metavar="FILE", help="a prompt in a file")
    _add_writing(add)
    add.add_argument("--beams", type=int, metavar="N", help="the likeliest text of N kept at each token")

    add = _add(commands, "chat", language.chat, "talk to a model in the terminal", "jichu chat runs/chat-sft")
    add.add_argument("run", help="a run folder")
    add.add_argument("--system", metavar="TEXT", help="what the model is told before the first message")
    _add_writing(add)

    _add_adapters(commands)

    about = (
        "what this machine has and what is fast on it; of a model its cost, and how it would begin to train"
    )
    add = _add(commands, "doctor", verbs.doctor, about, "jichu doctor resnet18 --size 64")
    add.add_argument("model", nargs="?", help="a backbone's name, import path or hf: name, or a run folder")
    add.add_argument("--size", type=int, default=224, help="pixels of a side; 224 if not given")
    add.add_argument("--channels", type=int, default=3, help="3 if not given")
    add.add_argument("--batch-sizes", default="1,8,32,128", metavar="N,N,…", help="1,8,32,128 if not given")
    add.add_argument("--seconds", type=float, default=1.0, help="for each batch size; 1 if not given")
    return top


def _add_adapters(commands: Any) -> None:
    about = "list, merge or remove what `--adapt lora` has trained"
    group = commands.add_parser("adapters", help=about, description=about[0].upper() + about[1:] + ".")
    below = group.add_subparsers(
        dest="action", metavar="list, merge or remove", required=True, parser_class=_Parser
    )

    add = _add(
        below,
        "list",
        adapters.show,
        "the adapters of runs, and whether their base is there",
        "jichu adapters list runs",
    )
    add.add_argument("runs", nargs="*", metavar="RUN", help="run folders, or folders of runs; runs if none")

    add = _add(
        below,
        "merge",
        adapters.merge,
        "make a model whole, so that it needs its base no more",
        "jichu adapters merge runs/reviews --out runs/reviews-whole",
    )
    add.add_argument("run", help="a run folder")
    add.add_argument("--out", metavar="FOLDER", help="a new run folder; in place if not given")
    _add_which(add)

    about = "take adapters away; what is told of the run stays"
    add = _add(below, "remove", adapters.remove, about, "jichu adapters remove runs/reviews")
    add.add_argument("run", help="a run folder")
    _add_which(add)


def _add_which(add: argparse.ArgumentParser) -> None:
    add.add_argument("--stage", metavar="NAME", help="of several; the recipe's result if not given")


def _add(commands: Any, name: str, run: Any, about: str, example: str) -> argparse.ArgumentParser:
    add = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add.set_defaults(run_verb=run)
    add.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    add.add_argument("--quiet", action="store_true", help="no progress")
    add.add_argument("--debug", action="store_true", help="errors with their traceback")
    return add


def _add_writing(add: argparse.ArgumentParser) -> None:
    """How the next token is chosen, and when to stop."""
    add.add_argument(
        "--most",
        type=int,
        metavar="N",
        help="tokens to write at most, also beyond the context; what it holds if not given",
    )
    add.add_argument(
        "--temperature", type=float, help="0 takes the likeliest token, more is bolder; 1 if not given"
    )
    add.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest tokens")
    add.add_argument("--top-p", type=float, metavar="P", help="only the likeliest that together have P")
    add.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1 shuns what was written")
    add.add_argument("--stop", action="append", metavar="TEXT", help="end before this text")
    add.add_argument("--seed", type=int, help="of the draws; 0 if not given")


def _add_set(add: argparse.ArgumentParser, what: str = "any key, such as data.size=32") -> None:
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def _add_stage(add: argparse.ArgumentParser, stage: str) -> None:
    """The plain keys of a stage as options; the others by --set."""
    add.add_argument("data", help="a folder, a file, or sklearn:digits, iris, …")
    add.add_argument("--name", help=f"the run's name; {stage} if not given")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--resume", action="store_true", help="go on with the run of that name where it stopped")
    for name, field in STAGES[stage].model_fields.items():
        if name in ("stage", "name") or not _plain(field):
            continue
        key = field.alias or name
        about = (field.description or "").replace("%", "%%")
        default = getattr(field.default, "name", field.default)
        shown = (
            f"; {default} if not given"
            if default not in (None, False) and "if not given" not in about
            else ""
        )
        option = (
            {"action": argparse.BooleanOptionalAction, "default": None}
            if field.annotation is bool
            else {"metavar": "VALUE"}
        )
        add.add_argument(
            f"--{key.replace('_', '-')}", dest=f"stage_{key}", help=(about + shown).lstrip("; "), **option
        )
    _add_set(add, "any other key, such as optimizer.lr=0.01 or data.size=32")


def _plain(field: FieldInfo) -> bool:
    """Whether a value of the field can be written as one word: no list, and no structure of its own."""
    return get_origin(field.annotation) is not list and set(models_in(field.annotation)) <= {Spec}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    _stand_in()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, stop = "--debug" in given, Stop()
    with undisturbed():
        try:
            with terminable() as stop:
                code = _command(given)
                sys.stdout.flush()  # here, where what goes wrong can be told
                return code
        except BrokenPipeError:  # whoever read the result has read enough
            _silence()
            return 0
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            code = _tell(error, stop)
            if arguments is None and code == Interrupted.code:
                _leave(code)
            return code


def _tell(error: BaseException, stop: Stop) -> int:
    """Say what went wrong; gives its exit code."""
    if isinstance(error.__context__, PeerLost):  # that the launcher ended this process too is not the reason
        error = error.__context__
    stopped = stop.requested and not isinstance(error, JichuError)
    code, told = _explain(KeyboardInterrupt() if stopped else error)
    # of several processes one speaks; of one that is lost, those that are left
    if os.environ.get("RANK", "0") == "0" or isinstance(error, PeerLost):
        with contextlib.suppress(OSError):
            print(f"jichu: {told}", file=sys.stderr)
    _silence()
    return code


def _command(given: list[str]) -> int:
    options = parser().parse_args(given)
    if options.verb is None:
        parser().print_help()
        return 0
    verbs.set_quiet(options.quiet)
    return options.run_verb(options) or 0


_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code of what went wrong, and the words for it."""
    if isinstance(error, JichuError):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, OSError) and error.strerror:
        cure = "a place that may be written to, or read" if error.errno in _REFUSED else None
        what = error.strerror[0].lower() + error.strerror[1:]
        return 1, str(JichuError(what, where=error.filename2 or error.filename, expected=cure))
    again = "run again with --debug for the traceback"
    return 1, str(JichuError(f"{type(error).__name__}: {error}", expected=again))


def _stand_in() -> None:
    """Where standard streams are closed nothing stands in their place: else the first file that is opened
    would, and get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 (as long as the process)
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def _leave(code: int) -> None:
    """End the process with this code. Python would end it by SIGINT where KeyboardInterrupt went through code
    that was made of a string, as data classes are, whoever caught it afterwards."""
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def _silence() -> None:
    """What could not be printed is not tried again at the end of the process."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
