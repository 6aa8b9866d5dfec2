"""Where a benchmark's figures go: one JSON file each, in one form."""

import datetime
import json
from pathlib import Path

from jichu.core.devices import environment
from jichu.core.files import write_json

FOLDER = Path(__file__).parent / "results"


def write(name, metric, rows, ratio=None, **more):
    """rows: [{"system", "value", "low", "high"}]; ratio: {peer: ours / peer}; `more` is added as it is."""
    about = environment()
    machine = {key: about[key] for key in ("processor", "cores", "threads", "memory_gib", "python")}
    found = {
        "name": name,
        "date": datetime.date.today().isoformat(),
        "machine": machine | {"torch": about["versions"]["torch"]},
        "metric": metric,
        "rows": rows,
        "ratio": ratio or {},
        **more,
    }
    write_json(FOLDER / f"{name}.json", found)
    print(json.dumps(found, indent=2))
