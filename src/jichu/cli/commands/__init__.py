"""The commands, in the order of `jichu --help`: a module for each, or for a few that belong together. `add` says what is
asked of a command and which function does it; everything heavy is imported there, so that `jichu --help` answers at once."""

from __future__ import annotations

from . import (
    adapters,
    audit,
    board,
    doctor,
    drift,
    embed,
    explain,
    explore,
    export,
    init,
    inspect,
    language,
    predict,
    run,
    runs,
    serve,
    stages,
)

COMMANDS = (
    run,
    inspect,
    init,
    stages,
    audit,
    explain,
    explore,
    predict,
    embed,
    language,
    export,
    serve,
    runs,
    board,
    drift,
    adapters,
    doctor,
)
