"""The house: imports point down, and never in a circle."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "jichu"
FLOORS = {
    "core": 0, "pages": 0,
    "data": 1, "constraints": 1, "models": 1, "metrics": 1, "attacks": 1,
    "objectives": 2, "adapt": 2,
    "train": 3,
    "auditing": 4, "compression": 4,
    "ship": 5, "federated": 5, "rl": 5, "tuning": 5,
    "recipe": 6, "cli": 6, "runs": 6, "audits": 6, "comparing": 6, "drifts": 6, "embeddings": 6, "exports": 6, "serving": 6, "explanations": 6, "exploring": 6, "graph_inputs": 6, "quantized": 6, "tradeoffs": 6, "adapters": 6, "tracking": 6, "api": 6, "__init__": 6, "__main__": 6,
}  # fmt: skip


def _typing_only(tree):
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }


def imports(path, root=SOURCE):
    """(module, modules it imports) within the package, lazily or not."""
    parts = path.relative_to(root).with_suffix("").parts
    tree = ast.parse(path.read_text())
    skipped = _typing_only(tree)
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "jichu"}
        if isinstance(node, ast.ImportFrom):
            if node.level:
                package = ["jichu", *parts[: len(parts) - node.level]]
                base = ".".join([*package, node.module] if node.module else package)
            else:
                base = node.module or ""
            if base.split(".")[0] == "jichu":
                found |= {f"{base}.{a.name}" for a in node.names} | {base}
    return parts, found


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def test_no_import_points_up():
    for path in SOURCE.rglob("*.py"):
        parts, found = imports(path)
        assert parts[0] in FLOORS, f"{path} is on no floor"
        for target in found:
            if room(target) != "__init__":
                assert FLOORS[room(target)] <= FLOORS[parts[0]], f"{path} imports {target}, which is above it"


def cycle(graph):
    """A circle in a graph, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return None
        path.append(node)
        for other in sorted(graph.get(node, ())):
            if circle := visit(other):
                return circle
        done.add(path.pop())
        return None

    return next((c for c in map(visit, list(graph)) if c), None)


def test_no_import_goes_in_a_circle():
    rooms, modules = {}, {}
    files = {
        ".".join(["jichu", *p.relative_to(SOURCE).with_suffix("").parts]): p for p in SOURCE.rglob("*.py")
    }
    for name, path in files.items():
        parts, found = imports(path)
        rooms.setdefault(parts[0], set()).update(
            r for r in map(room, found) if r not in (parts[0], "__init__")
        )
        modules[name] = {t for t in found if t in files} - {name}
    assert cycle(rooms) is None
    assert cycle(modules) is None


def test_the_walk_finds_what_it_looks_for(tmp_path):
    bad = tmp_path / "core" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("from jichu.train.fit import fit\ndef f():\n    from ..auditing import table\n")
    _, found = imports(bad, tmp_path)
    assert {room(t) for t in found} >= {"train", "auditing"}
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) is None
