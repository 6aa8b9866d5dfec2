"""What `jichu inspect` prints of what it found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jichu.core.errors import UsageError
from jichu.data.dataset import Dataset

_PAIRS, _CLASSES = 5, 30  # shown before the rest is only counted


def tables(found: dict[str, Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """The columns, then the splits with the rows of each class, as (heads, rows)."""
    yield (
        ["column", "type", "part", "missing", "different", "range or most frequent"],
        [
            [
                c["name"][:40],
                c["type"],
                c["role"],
                _cell(c.get("missing")),
                _cell(c.get("distinct")),
                _range(c),
            ]
            for c in found["columns"]
        ],
    )
    splits = found["splits"]
    rows = [["rows", *[f"{s['rows']:,}" for s in splits.values()]]]
    if any(s["unlabelled"] for s in splits.values()):
        rows.append(["without label", *[f"{s['unlabelled']:,}" for s in splits.values()]])
    for key in ("mean", "std"):
        if any(key in s for s in splits.values()):
            rows.append([key, *[f"{s[key]:.4g}" if key in s else "" for s in splits.values()]])
    rows += [[c[:40], *[_of(s, c) for s in splits.values()]] for c in found["classes"][:_CLASSES]]
    if len(found["classes"]) > _CLASSES:
        rows.append([f"and {len(found['classes']) - _CLASSES} more classes", *[""] * len(splits)])
    yield ["", *splits], rows


def _of(split: dict[str, Any], name: str) -> str:
    """The rows of a class and their share of the labelled ones."""
    count = split["classes"].get(name, 0)
    known = split["rows"] - split["unlabelled"]
    return f"{count:,}  {count / known:4.0%}" if known else f"{count:,}"


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Sizes, gaps, duplicates, remarks and what cannot be used."""
    if found["images"]:
        yield _files(found["images"])
    if found["sounds"]:
        yield _sounds(found["sounds"])
    for column in found["columns"]:
        if "lengths" in column and column["role"] != "not used":
            yield from _texts(column)
    if found["encodings"]:
        yield "encodings: " + "; ".join(f"{file} read as {name}" for file, name in found["encodings"].items())
    if found["cleaned"]:
        yield "left out: " + ", ".join(f"{n:,} by {rule}" for rule, n in found["cleaned"].items())
    missing = found["missing"]
    if missing["cells"]:
        yield (f"missing: {missing['cells']:,} of {missing['of']:,} cells"
               f" ({missing['cells'] / missing['of']:.2%}), in {missing['columns']} columns")  # fmt: skip
    counts, exact = found["duplicates"], found["exact_duplicates"]
    more = {"across splits": exact["across_splits"], "not used because held out too": counts["removed"],
            "sets with different labels": counts["conflicting_labels"]}  # fmt: skip
    yield f"exact duplicates: {counts['exact']:,}" + "".join(
        f"; {n:,} {what}" for what, n in more.items() if n
    )
    yield from _pairs(exact)
    near = found["near_duplicates"]
    across = f"; {near['across_splits']:,} across splits" if near["across_splits"] else ""
    yield f"near duplicates: {near['pairs']:,}{across}"
    yield from _pairs(near)
    if shared := found["contamination"]:
        yield f"contamination: {shared['pairs']:,} training texts share a passage with {shared['held_out']:,} held out"
        yield from _pairs(shared, "~")
    for kind, of in found["personal"].items():
        yield f"personal data: {kind} in {of['rows']:,} rows"
        yield from (f"  {record}: {text}" for record, text in of["first"][:_PAIRS])
    for leak in found["leakage"]:
        yield f"suspected leakage: {leak['column']}, {leak['measure']} {leak['score']:.3f} by itself"
    for what, told in (
        ("notes", [f"{c['name']}: {c['note']}" for c in found["columns"] if c["note"]]),
        ("remarks", found["remarks"]),
    ):
        if told:
            yield f"\n{what}"
            yield from (f"  {text}" for text in told)
    yield f"\nnot used: {found['quarantined']:,}"
    yield from (f"  {q['record']}: {q['reason']}" for q in found["quarantine"])
    if found["quarantined"] > len(found["quarantine"]):
        yield f"  and {found['quarantined'] - len(found['quarantine']):,} more"


def _files(images: dict[str, Any]) -> str:
    across = " by ".join(
        f"{low}" if low == high else f"{low} to {high}"
        for low, _, high in (images["width"], images["height"])
    )
    formats = ", ".join(f"{n:,} {name}" for name, n in images["formats"].items())
    return f"images: {across} pixels; {formats}; {images['colour']:,} of {images['looked_at']:,} in colour"


def _sounds(sounds: dict[str, Any]) -> str:
    low, middle, high = sounds["seconds"]
    told = {
        key: ", ".join(f"{n:,} {unit.format(value)}" for value, n in sounds[key].items())
        for key, unit in (("rates", "at {:,} Hz"), ("formats", "{}"))
    }
    return (
        f"sounds: {low:.2f} to {high:.2f} s, half of them below {middle:.2f}; {told['rates']}; {told['formats']};"
        f" {sounds['silent']:,} silent"
    )


def _texts(column: dict[str, Any]) -> Iterator[str]:
    least, quarter, median, three, most = column["lengths"]
    yield (
        f"texts of {column['name']}: {column['characters']:,} characters, {column['bytes']:,} bytes; {least:,} to"
        f" {most:,} characters each, half of them {quarter:,} to {three:,} (median {median:,})"
    )
    scripts = ", ".join(f"{name} {share:.1%}" for name, share in column["scripts"].items())
    told = ", ".join(f"{code} {n / column['looked_at']:.0%}" for code, n in column["languages"].items())
    yield f"  letters: {scripts or 'none'}; languages, as far as can be told: {told}"


def _pairs(told: dict[str, Any], sign: str = "=") -> Iterator[str]:
    yield from (f"  {one} {sign} {other} ({splits})" for one, other, splits in told["first"][:_PAIRS])
    if told["pairs"] > _PAIRS:
        yield f"  and {told['pairs'] - _PAIRS:,} more"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _range(column: dict[str, Any]) -> str:
    if "low" in column:
        low, high = column["low"], column["high"]
        return f"{low} to {high}" if isinstance(low, str) else f"{low:.4g} to {high:.4g}"
    if "lengths" in column:
        return f"{column['lengths'][0]:,} to {column['lengths'][-1]:,} characters"
    top = ", ".join(f"{name[:16]} {count:,}" for name, count in column.get("top", [])[:3])
    return top + (", …" if len(column.get("top", [])) > 3 else "")


def draw_augmentation(dataset: Dataset, path: str) -> None:
    """What each augmentation does to some of the images, as a PNG."""
    from jichu.auditing.gallery import gallery, save

    if dataset.kind != "image":
        raise UsageError(f"{dataset.source} has no images to draw", where="--augment")
    save(gallery(dataset.tensors["image"][dataset.splits["train"][:6]]), path)
