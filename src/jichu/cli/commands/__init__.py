"""The commands, in the order of `jichu --help`: a module for each, or for a few that belong together. `add` says what is
asked of a command and which function does it; everything heavy is imported there, so that `jichu --help` answers at once."""

from __future__ import annotations

from . import (
    adapters,
    audit,
    doctor,
    drift,
    embed,
    explain,
    export,
    init,
    inspect,
    language,
    predict,
    run,
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
    predict,
    embed,
    language,
    export,
    serve,
    drift,
    adapters,
    doctor,
)
