"""`jichu doctor`: what this machine has, and what a model costs on it."""

from __future__ import annotations

from typing import Any

from jichu.core.config import parse_yaml

from ..options import Options, command
from ..output import print_json, print_table


def add(commands: Any) -> None:
    """The command."""
    about = (
        "what this machine has and what is fast on it; of a model its cost, and how it would begin to train"
    )
    parser = command(commands, "doctor", doctor, about, "jichu doctor resnet18 --size 64")
    parser.add_argument(
        "model", nargs="?", help="a backbone's name, import path or hf: name, or a run folder"
    )
    parser.add_argument("--size", type=int, default=224, help="pixels of a side; 224 if not given")
    parser.add_argument("--channels", type=int, default=3, help="3 if not given")
    parser.add_argument(
        "--batch-sizes", default="1,8,32,128", metavar="N,N,…", help="1,8,32,128 if not given"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each batch size; 1 if not given")


def doctor(options: Options) -> None:
    """What this machine has, or what a model costs."""
    if options.model:
        return _doctor_of_a_model(options)
    from ..doctor import examine_machine, machine_lines, machine_tables

    found = examine_machine()
    if options.json:
        print_json(found)
        return
    for key, value in found["environment"].items():
        print(
            f"{key}: {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}"
        )
    for columns, rows in machine_tables(found):
        print_table(columns, rows)
    print()
    for line in machine_lines(found):
        print(f"- {line}")


def _doctor_of_a_model(options: Options) -> None:
    from ..doctor import examine_model, lines, tables

    sizes = parse_yaml(f"[{options.batch_sizes}]", "--batch-sizes")
    found = examine_model(options.model, options.channels, options.size, sizes, options.seconds)
    if options.json:
        print_json(found)
        return
    print("\n".join(lines(found)))
    for columns, rows in tables(found):
        print_table(columns, rows)
    for warning in found["warnings"]:
        print(f"\n- {warning}")
