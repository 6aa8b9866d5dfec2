"""`jichu generate` and `jichu chat`: what a language model writes, as it writes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Options = argparse.Namespace
_SETTINGS = ("most", "temperature", "top_k", "top_p", "repetition_penalty", "beams", "stop", "seed")


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
