"""`jichu generate` and `jichu chat`: what a language model writes, as it writes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..options import Options, command

_SETTINGS = ("most", "temperature", "top_k", "top_p", "repetition_penalty", "beams", "stop", "seed")


def add(commands: Any) -> None:
    """The commands."""
    parser = command(commands, "generate", generate, "go on with prompts", 'jichu generate runs/gpt "ROMEO:"')
    parser.add_argument("run", help="a run folder")
    parser.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="texts to go on with; standard input if none"
    )
    parser.add_argument("--file", action="append", default=[], metavar="FILE", help="a prompt in a file")
    _add_writing(parser)
    parser.add_argument("--beams", type=int, metavar="N", help="the likeliest text of N kept at each token")

    parser = command(commands, "chat", chat, "talk to a model in the terminal", "jichu chat runs/chat-sft")
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the first message")
    _add_writing(parser)


def _add_writing(parser: argparse.ArgumentParser) -> None:
    """How the next token is chosen, and when to stop."""
    parser.add_argument(
        "--most",
        type=int,
        metavar="N",
        help="tokens to write at most, also beyond the context; what it holds if not given",
    )
    parser.add_argument(
        "--temperature", type=float, help="0 takes the likeliest token, more is bolder; 1 if not given"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="only the likeliest that together have P")
    parser.add_argument(
        "--repetition-penalty", type=float, metavar="R", help="above 1 shuns what was written"
    )
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text")
    parser.add_argument("--seed", type=int, help="of the draws; 0 if not given")


def _settings(options: Options) -> dict[str, Any]:
    given = {name: getattr(options, name, None) for name in _SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def _write(text: str) -> None:
    print(text, end="", flush=True)


def generate(options: Options) -> None:
    """Go on with each prompt."""
    from jichu.core.files import dumps
    from jichu.runs import Run

    run = Run(options.run)
    prompts = [*options.prompts, *(Path(f).read_text("utf-8") for f in options.file)]
    if not prompts:
        prompts = [sys.stdin.read()] if not sys.stdin.isatty() else [""]
    streams = not options.json and len(prompts) == 1 and (options.beams or 1) == 1
    begun = list(prompts) if streams else []  # not said before it is known that the model goes on

    def stream(piece: str) -> None:
        _write((begun.pop() if begun else "") + piece)

    found = run.generate(prompts, stream=stream if streams else None, **_settings(options))
    if options.json:
        both = zip(prompts, found, strict=True)
        print(dumps([{"prompt": prompt, "text": text} for prompt, text in both], indent=2))
    elif streams:
        print("".join(begun))
    else:
        print("\n\n".join(prompt + text for prompt, text in zip(prompts, found, strict=True)))


def chat(options: Options) -> None:
    """Answer line by line, with all that was said before."""
    from jichu.runs import Run

    run = Run(options.run)
    run.require_chat()
    begin = [{"role": "system", "content": options.system}] if options.system else []
    said = list(begin)
    for line in _lines():
        if line == "/new":
            said = list(begin)
            continue
        said.append({"role": "user", "content": line})
        answer, forgotten = run.answer(said, stream=_write, **_settings(options))
        print()
        if forgotten:
            print(f"({forgotten} earlier messages no longer fit and were left out)", file=sys.stderr)
            said = begin + said[len(begin) + forgotten :]
        said.append({"role": "assistant", "content": answer})


def _lines() -> Iterator[str]:
    """What somebody types, or what comes from a pipe, without empty lines, until its end or /bye."""
    typed = sys.stdin.isatty()
    if typed:
        print("/new begins anew, /bye or Ctrl-D ends", file=sys.stderr)
    while True:
        if typed:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() == "/bye":
            return
        if line.strip():
            yield line.strip()
