"""`jichu serve`: runs behind HTTP."""

from __future__ import annotations

import sys
from typing import Any

from ..options import Options, add_set, command
from ..output import print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "serve",
        answer,
        "answer other programs over HTTP",
        "jichu serve runs/quickstart --port 8000",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]RUN",
        help="run folders, or .onnx files of jichu export; NAME is theirs if not given",
    )
    parser.add_argument(
        "--host", help="the address to listen at; 127.0.0.1 if not given, others need a token"
    )
    parser.add_argument("--port", type=int, help="8000 if not given; 0 takes one that is free")
    parser.add_argument(
        "--tokens", metavar="FILE",
        help="who may ask, on each line NAME TOKEN [expires=DATE] [rate=N] [admin]; or a token in JICHU_TOKEN",
    )  # fmt: skip
    parser.add_argument(
        "--open", action="store_true", help="open it in a browser, with rows of the runs' own data shown (--set play=true)"
    )  # fmt: skip
    add_set(
        parser,
        "any other key, such as batch=64, wait=2, queue=512, rows=256, body=32, timeout=60 or rate=600",
    )


def answer(options: Options) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    import webbrowser

    from jichu.core.config import override
    from jichu.core.interrupt import hangup_kept, leave
    from jichu.serving import announce, server

    given = {key: getattr(options, key) for key in ("host", "port") if getattr(options, key) is not None}
    if options.open:
        given["play"] = True
    settings = override(given, options.set)
    with hangup_kept():  # until the models are there, which it asks to be read again
        made = server(options.runs, tokens=options.tokens, **settings)
        if options.json:
            print_json({"address": made.address, "models": made.versions})
            sys.stdout.flush()  # whoever started it waits for the address
        else:
            announce(made)
        if options.open:
            webbrowser.open(made.address)  # which waits until it is answered
        made.run()
    if made.computing:  # Python would end such a thread in the middle of C++, and that the process by abort
        leave(0)
