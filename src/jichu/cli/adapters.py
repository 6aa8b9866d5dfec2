"""`jichu adapters`: the small files beside one base."""

from __future__ import annotations

from .verbs import Options, print_json, print_table


def _short(pattern: str) -> str:
    """The ends of names: `self.query, self.value`."""
    return ", ".join(".".join(name.split(".")[-2:]) for name in pattern.split(", "))


def show(options: Options) -> None:
    """The adapters of runs."""
    from dataclasses import asdict

    from jichu.adapters import found
    from jichu.core.progress import number

    adapters = found(options.runs or ["runs"])
    if options.json:
        print_json([asdict(adapter) for adapter in adapters])
        return
    print_table(
        ["adapters", "base", "", "kind", "rank", "beside", "KiB", "score"],
        [
            [a.run if a.stage == "finetune" else f"{a.run} {a.stage}", a.base or "", a.state, a.kind, str(a.rank),
             _short(a.pattern), number(a.bytes / 1024), ", ".join(f"{name} {number(value)}" for name, value in a.score.items())]
            for a in adapters
        ],
    )  # fmt: skip


def merge(options: Options) -> None:
    """Make a run's model whole."""
    from jichu.adapters import merge as made_whole

    path = made_whole(options.run, options.out, options.stage)
    if options.json:
        print_json({"run": str(path)})
    else:
        print(f"whole: {path}")


def remove(options: Options) -> None:
    """Take adapters away."""
    from jichu.adapters import remove as taken_away

    size = taken_away(options.run, options.stage)
    if options.json:
        print_json({"run": options.run, "bytes": size})
    else:
        print(f"removed from {options.run}: {size / 1024:,.0f} KiB")
