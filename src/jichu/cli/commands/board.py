"""`jichu board`: all runs on a page."""

from __future__ import annotations

import sys
from typing import Any

from ..options import Options, add_set, command
from ..output import print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands, "board", show, "a page over all runs, live, for the browser", "jichu board runs --open"
    )
    parser.add_argument(
        "folder", nargs="?", default="runs", help="the folder with the run folders; runs if not given"
    )
    parser.add_argument(
        "--host", help="the address to listen at; 127.0.0.1 if not given, others need a token"
    )
    parser.add_argument("--port", type=int, help="8080 if not given; 0 takes one that is free")
    parser.add_argument(
        "--tokens", metavar="FILE", help="who may look, as of jichu serve; or a token in JICHU_TOKEN"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    add_set(parser, "any other key, such as rate=600")


def show(options: Options) -> None:
    """Show runs until Ctrl-C or SIGTERM."""
    from jichu.core.config import override
    from jichu.tracking.board import announce, server

    given = {key: getattr(options, key) for key in ("host", "port") if getattr(options, key) is not None}
    made = server(options.folder, tokens=options.tokens, **override(given, options.set))
    if options.json:
        print_json({"address": made.address})
        sys.stdout.flush()  # whoever started it waits for the address
    announce(made, browser=options.open)
    made.run()
