"""Figures as inline SVG whose colours follow the page's, light or dark."""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from jichu.core.words import named, words
from jichu.data.pictures import picture as plain_picture

# Okabe and Ito's palette, told apart by most people with colour-blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999")
FOR, AGAINST = PALETTE[1], PALETTE[0]  # what speaks for an answer, and against it
_NAMED = 40  # classes that have their names beside a matrix
_INK = "#808081"  # replaced by the page's own text colour


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure, (axes,) = _panels(width, height, 1)
    return figure, axes


def _panels(width: float, height: float, count: int) -> tuple[Any, list[Any]]:
    """A figure with so many axes side by side, which share what stands on their left."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    found = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    dress(figure, found)
    return figure, list(found)


def dress(figure: Any, panels: Iterable[Any]) -> None:
    """The look of all figures: nothing behind what is drawn, and lines and words in the page's ink."""
    figure.patch.set_alpha(0)
    for axes in panels:
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", colors=_INK, labelsize=9)
        for spine in axes.spines.values():
            spine.set_color(_INK)
        for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
            label.set_color(_INK)
            label.set_fontsize(9.5)


def svg(figure: Any, title: str) -> str:
    """A figure as text, whose ink is that of what it stands in."""
    import matplotlib

    buffer = io.StringIO()
    # a fixed salt: the same run gives the same page
    settings: Any = {"svg.hashsalt": title, "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's browser has the fonts that we may lack
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def legend(figure: Any, axes: Any) -> Any:
    """Above what is drawn, not over it, and not beside it, where a phone has no room."""
    return figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=9,
                         labelcolor=_INK)  # fmt: skip


def _written(name: str, most: int = 24) -> str:
    """A name as it is: a dollar sign would begin a formula; cut where it would leave no room."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")


def curves(rows: list[dict[str, Any]], key: str, label: str) -> str | None:
    """A logged value against the step, a line for each stage (the draws of one share a colour)."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        if row.get(key) is not None:
            x, y = series.setdefault(row["stage"], ([], []))
            x.append(row["step"])
            y.append(row[key])
    if not series:
        return None
    figure, axes = _figure(4.6, 2.7)
    families = list(dict.fromkeys(name.split("/")[0] for name in series))
    labelled = set()
    for name, (x, y) in series.items():
        family = name.split("/")[0]
        shown = {} if family in labelled else {"label": _written(family)}
        labelled.add(family)
        alone = sum(n.split("/")[0] == family for n in series) == 1
        axes.plot(x, y, color=PALETTE[families.index(family) % len(PALETTE)], lw=1.6 if alone else 0.9,
                  alpha=1 if alone else 0.6, marker="o" if len(x) == 1 else None, **shown)  # fmt: skip
    axes.set_xlabel(words("step"))
    axes.set_ylabel(_written(label, 60))
    if len(families) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return svg(figure, words("{figure} while training", figure=label))


def comparison(intervals: dict[str, dict[str, float]], label: str) -> str:
    """A point and its interval for each model."""
    figure, axes = _figure(4.8, 0.6 + 0.36 * len(intervals))
    names = list(intervals)[::-1]
    for i, name in enumerate(names):
        v = intervals[name]
        if v["value"] is None:  # not a number on these rows
            continue
        colour = PALETTE[(len(names) - 1 - i) % len(PALETTE)]
        axes.plot([v["low"], v["high"]], [i, i], color=colour, lw=2.5, solid_capstyle="butt")
        axes.plot(v["value"], i, "o", color=colour, ms=7)
    axes.set_yticks(range(len(names)), [_written(n) for n in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(_written(words("{figure}, 95% interval", figure=label), 80))
    axes.grid(axis="x", color=_INK, alpha=0.25, lw=0.6)
    return svg(figure, words("{figure}, 95% interval", figure=label))


def by_group(groups: list[str], rates: dict[str, dict[str, list[dict[str, Any]]]], label: str) -> str:
    """A panel for each rate: of every group a point and its interval for each model. `rates` are intervals by rate, model
    and group."""
    models = list(next(iter(rates.values())))
    figure, panels = _panels(2.4 * len(rates) + 1.4, 0.9 + 0.17 * len(groups) * (len(models) + 1), len(rates))
    for axes, (rate, of_models) in zip(panels, rates.items(), strict=True):
        for i, (model, intervals) in enumerate(of_models.items()):
            for j, v in enumerate(intervals):
                if v["value"] is None or np.isnan(v["value"]):
                    continue
                y = j + (i + 1) / (len(models) + 1) - 0.5
                colour = PALETTE[i % len(PALETTE)]
                axes.plot([v["low"], v["high"]], [y, y], color=colour, lw=2, solid_capstyle="butt")
                axes.plot(v["value"], y, "o", color=colour, ms=5)
            axes.plot([], [], "o", color=PALETTE[i % len(PALETTE)], ms=5, label=_written(model))
        axes.set_xlabel(_written(named(rate), 40))
        axes.grid(axis="x", color=_INK, alpha=0.25, lw=0.6)
    panels[0].set_yticks(range(len(groups)), [_written(name) for name in groups])
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    if len(models) > 1:
        legend(figure, panels[0])
    return svg(figure, label)


def confusion(counts: list[list[float]], classes: list[str]) -> str:
    """True classes down, predicted across; shade is the share of the true class."""
    matrix = np.array(counts)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-9)
    k = len(classes)
    names = [_written(c) for c in classes] if k <= _NAMED else []
    side = min(7.5, 1.4 + 0.36 * k) + 0.075 * max(
        map(len, names), default=0
    )  # inches, with room for the names
    figure, axes = _figure(side, side)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if k <= 15:
        for i in range(k):
            for j in range(k):
                if matrix[i, j] > 0:
                    colour = "white" if share[i, j] > 0.5 else "#1a1a1a"
                    text = f"{matrix[i, j]:.0f}" if matrix[i, j] >= 0.95 else f"{matrix[i, j]:.1f}"
                    axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    if names:
        long = any(len(c) > 3 for c in classes)
        axes.set_xticks(range(k), names, rotation=90 if long else 0)
        axes.set_yticks(range(k), names)
    axes.set_xlabel(words("predicted"))
    axes.set_ylabel(words("true"))
    return svg(figure, words("confusion matrix"))


def scatter(truth: np.ndarray, predicted: np.ndarray, label: str, most: int = 1500) -> str:
    """Predicted against true numbers, an even sample where there are many, beside the line of no error."""
    step = max(1, len(truth) // most)
    figure, axes = _figure(4.6, 4.2)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=_INK, lw=0.8)
    axes.plot(truth[::step], predicted[::step], ".", color=PALETTE[0], ms=3, alpha=0.5)
    axes.set_xlabel(_written(words("true {column}", column=label), 50))
    axes.set_ylabel(words("predicted"))
    return svg(figure, words("predicted against true {column}", column=label))


def reliability(name: str, before: dict[str, list[float]], after: dict[str, list[float]] | None) -> str:
    """How often the rows of a bin were right, against how sure the model was; a larger dot holds more rows."""
    figure, axes = _figure(3.6, 3.4)
    axes.plot([0, 1], [0, 1], color=_INK, lw=0.8, ls="--")
    for i, (found, said) in enumerate(((before, words("as it is")), (after, words("after temperature")))):
        if found is not None:
            share = np.array(found["rows"]) / sum(found["rows"])
            axes.plot(found["confidence"], found["accuracy"], color=PALETTE[i], lw=1, alpha=0.6)
            axes.scatter(
                found["confidence"], found["accuracy"], 12 + 240 * share, color=PALETTE[i], label=said
            )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel=words("how sure"), ylabel=words("how often right"))
    axes.set_title(_written(name))
    if after is not None:
        for handle in legend(figure, axes).legend_handles:
            handle.set_sizes([36])
    return svg(figure, words("reliability of {stage}", stage=name))


def strengths(models: dict[str, list[dict[str, Any]]], across: str, up: str) -> str:
    """A share, or an error, of each model, [{at, value, low, high}], against how strong something is."""
    figure, axes = _figure(5.2, 3.2)
    for i, (name, found) in enumerate(models.items()):
        colour = PALETTE[i % len(PALETTE)]
        at, value, low, high = ([point[key] for point in found] for key in ("at", "value", "low", "high"))
        axes.plot(at, value, color=colour, lw=1.4, marker="o", ms=3.5, label=_written(name))
        axes.fill_between(at, low, high, color=colour, alpha=0.18, lw=0)
    shares = all(point["high"] <= 1 for found in models.values() for point in found)
    axes.set(ylim=(0, 1.02 if shares else None), xlabel=across, ylabel=up)
    axes.grid(color=_INK, alpha=0.25, lw=0.6)
    legend(figure, axes)
    return svg(figure, words("{figure} against {across}", figure=up, across=across))


def scaling(
    points: dict[str, list[dict[str, Any]]], across: str, up: str, *,
    lines: dict[str, tuple[np.ndarray, np.ndarray]] | None = None, levels: dict[str, float] | None = None,
) -> str:  # fmt: skip
    """Intervals of each model, [{at, value, low, high}], on a logarithmic axis; `lines` ([n], [n]) drawn through those of
    some, and `levels` across all."""
    figure, axes = _figure(5.2, 3.2)
    lines = lines or {}
    for i, (name, found) in enumerate(points.items()):
        colour = PALETTE[i % len(PALETTE)]
        for p in found:
            axes.plot(
                [p["at"]] * 2, [p["low"], p["high"]], color=colour, lw=2, solid_capstyle="butt", alpha=0.6
            )
        joined = "none" if name in lines else "-"
        at, value = ([p[key] for p in found] for key in ("at", "value"))
        axes.plot(at, value, color=colour, ls=joined, lw=1.2, marker="o", ms=5, label=_written(name))
        if name in lines:
            axes.plot(*lines[name], color=colour, lw=1.2, ls="--")
    axes.set_xscale("log")
    for name, level in (levels or {}).items():
        axes.axhline(level, color=_INK, lw=0.8, ls=":")
        axes.annotate(name, (1, level), (0, 2), axes.get_yaxis_transform(), "offset points",
                      ha="right", fontsize=8.5, color=_INK)  # fmt: skip
    every = sorted({p["at"] for found in points.values() for p in found})
    axes.set_xticks(every, [f"{at:,}" for at in every])
    axes.minorticks_off()
    axes.set(xlabel=across, ylabel=_written(up, 40))
    axes.grid(color=_INK, alpha=0.25, lw=0.6)
    if len(points) > 1:
        legend(figure, axes)
    return svg(figure, words("{figure} against {across}", figure=up, across=across))


def tradeoff(models: dict[str, list[dict[str, float]]], across: str, up: str) -> str:
    """Intervals of several sizes of each model, [{at, value, low, high}], joined from left to right."""
    figure, axes = _figure(4.8, 3.4)
    for i, (name, found) in enumerate(models.items()):
        colour, found = PALETTE[i % len(PALETTE)], sorted(found, key=lambda point: point["at"])
        at, value, low, high = ([point[key] for point in found] for key in ("at", "value", "low", "high"))
        axes.vlines(at, low, high, color=colour, lw=1, alpha=0.4)
        axes.plot(at, value, color=colour, lw=1, marker="o", ms=5, label=_written(name))
    axes.set(xlabel=across, ylabel=_written(up, 40))
    axes.set_xlim(left=0)
    axes.grid(color=_INK, alpha=0.25, lw=0.6)
    legend(figure, axes)
    return svg(figure, words("{figure} against {across}", figure=up, across=across))


def forecast(truth: np.ndarray, told: dict[str, np.ndarray], label: str, title: str) -> str:
    """What came, [steps], and what each model told of it."""
    figure, axes = _figure(4.8, 2.5)
    steps = np.arange(1, len(truth) + 1)
    axes.plot(steps, truth, color=_INK, linewidth=1.6, label=words("what came"))
    for i, (name, values) in enumerate(told.items()):
        axes.plot(steps, values, color=PALETTE[i % len(PALETTE)], linewidth=1.2, label=_written(name))
    axes.set_xlabel(words("steps ahead"))
    axes.set_ylabel(_written(label))
    axes.set_title(_written(title, 60))
    legend(figure, axes)
    return svg(figure, f"{label}, {title}")


def embedding_map(
    x: list[float], y: list[float], told: list[str], kinds: list[int], pictures: list[str] | None
) -> str:
    """Rows at their places, 0 to 1: as small pictures (data: addresses) with a frame in the colour of their kind, or as
    dots; kind -1 has none. What is `told` of a row is seen when it is pointed at."""
    width, height, side = 760, 560, 22
    marks = []
    for i, (across, up, text, kind) in enumerate(zip(x, y, told, kinds, strict=True)):
        left, top = 10 + across * (width - side - 20), 10 + (1 - up) * (height - side - 20)
        colour = "var(--soft)" if kind < 0 else PALETTE[kind % len(PALETTE)]
        title = f"<title>{html.escape(text)}</title>"
        if pictures is None:
            marks.append(
                f'<circle cx="{left + side / 2:.1f}" cy="{top + side / 2:.1f}" r="4" fill="{colour}">{title}</circle>'
            )
            continue
        marks.append(
            f'<g transform="translate({left:.1f} {top:.1f})">{title}<image href="{pictures[i]}" width="{side}"'
            f' height="{side}" preserveAspectRatio="none"/><rect width="{side}" height="{side}" fill="none"'
            f' stroke="{colour}" stroke-width="1.5"/></g>'
        )
    return (
        f'<svg class="map" role="img" width="{width}" aria-label="{words("a map of the features")}" viewBox="0 0 {width} {height}">'
        + "".join(marks) + "</svg>"
    )  # fmt: skip


def histogram(counts: list[int], label: str) -> str:
    """Bars side by side, one path that is stretched to the width it is given: there may be hundreds."""
    top = max(counts, default=0) or 1
    bars = "".join(f"M{10 * i} 40V{40 - max(1.0, 40 * n / top):.3g}h9V40z" for i, n in enumerate(counts) if n)
    return (
        f'<svg class="histogram" role="img" aria-label="{html.escape(label)}" viewBox="0 0 {10 * len(counts)} 40"'
        f' preserveAspectRatio="none"><path d="{bars}" fill="var(--mark)"/></svg>'
    )


def sizes(widths: list[int], heights: list[int]) -> str:
    """A dot for each width and height of images, the larger the more images have it; on the line they are
    square."""
    counts = Counter(zip(widths, heights, strict=True))
    most, side = max(counts.values()), max(*widths, *heights)
    dots = "".join(
        f'<circle cx="{40 + 200 * w / side:.1f}" cy="{210 - 200 * h / side:.1f}" r="{2 + 5 * (n / most) ** 0.5:.1f}"/>'
        for (w, h), n in counts.items()
    )
    text = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{said}</text>'
        for x, y, anchor, said in [
            (36, 14, "end", side), (36, 213, "end", 0), (240, 226, "end", side),
            (140, 226, "middle", words("width")), (36, 112, "end", words("height")),
        ]
    )  # fmt: skip
    return (
        f'<svg class="sizes" role="img" aria-label="{words("widths and heights of the images")}" viewBox="0 0 250 232">'
        '<path d="M40 10V210H240M40 210L240 10" fill="none" stroke="var(--line)"/>'
        f'<g fill="var(--mark)" fill-opacity=".5">{dots}</g><g fill="var(--soft)" font-size="10">{text}</g></svg>'
    )


def picture(image: Tensor, height: int = 72) -> Image.Image:
    """uint8 [C, H, W] as an image at least `height` pixels high, its pixels kept sharp."""
    made = plain_picture(image)
    times = max(1, height // made.height)
    return made.resize((made.width * times, made.height * times), Image.Resampling.NEAREST)


def data_uri(image: Tensor) -> str:
    """A small picture as a data: address."""
    return uri(picture(image))


def thumbnail(image: Tensor, most: int = 96) -> str:
    """The data: address of a picture of at most so many pixels; a page may hold hundreds."""
    made = plain_picture(image)
    if max(made.size) <= 48:
        return uri(made)
    made.thumbnail((most, most))
    return uri(made, "JPEG")


def uri(made: Image.Image, kind: str = "PNG") -> str:
    """A picture as a data: address."""
    buffer = io.BytesIO()
    made.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def bars(values: dict[str, float], label: str, most: int = 20) -> str:
    """A bar to the right or to the left for each name, the longest above."""
    names = sorted(values, key=lambda name: -abs(values[name]))[:most][::-1]
    figure, axes = _figure(6.2, 0.8 + 0.27 * len(names))
    lengths = [values[name] for name in names]
    axes.barh(range(len(names)), lengths, 0.7, color=[FOR if v > 0 else AGAINST for v in lengths])
    axes.axvline(0, color=_INK, lw=0.8)
    axes.set_yticks(range(len(names)), [_written(name, 40) for name in names])
    axes.set_xlabel(_written(label, 80))
    axes.margins(y=0.02)
    return svg(figure, label)


def gallery(pictures: list[str], told: list[str], width: int = 84, across: int = 8) -> str:
    """Pictures (data: addresses), each 84 high, in rows; what is `told` of one is seen when it is pointed at."""
    height, gap = 84, 8
    marks = []
    for i, (address, text) in enumerate(zip(pictures, told, strict=True)):
        left, top = i % across * (width + gap), i // across * (height + gap)
        marks.append(
            f'<g transform="translate({left} {top})"><title>{html.escape(text)}</title><image href="{address}"'
            f' width="{width}" height="{height}" style="image-rendering: pixelated"/></g>'
        )
    wide, high = min(across, len(pictures)) * (width + gap), -(-len(pictures) // across) * (height + gap)
    return f'<svg role="img" aria-label="{words("pictures")}" width="{wide}" viewBox="0 0 {wide} {high}">{"".join(marks)}</svg>'


def distributions(shares: dict[str, Any], label: str) -> str:
    """Two distributions over each other, `reference` and `logs`: shares between `edges`, or of `names`."""
    told = {"reference": words("the run's data"), "logs": words("the logs")}
    if "edges" in shares:
        figure, axes = _figure(4.6, 2.5)
        for i, (side, name) in enumerate(told.items()):
            axes.stairs(shares[side], shares["edges"], color=PALETTE[i], fill=True, alpha=0.25)
            axes.stairs(shares[side], shares["edges"], color=PALETTE[i], lw=1.4, label=name)
        axes.set_xlabel(_written(label, 50))
        axes.set_ylabel(words("share of the rows"))
    else:
        count = len(shares["names"])
        figure, axes = _figure(4.6, 0.9 + 0.34 * count)
        for i, (side, name) in enumerate(told.items()):
            at = np.arange(count) + (i - 0.5) * 0.38
            axes.barh(at, shares[side][:count], 0.36, color=PALETTE[i], alpha=0.8, label=name)
        axes.set_yticks(range(count), [_written(name) for name in shares["names"]])
        axes.set_ylim(count - 0.4, -0.6)
        axes.set_xlabel(words("share of the rows"))
        axes.set_title(_written(label, 50))
    legend(figure, axes)
    return svg(figure, words("{column}: the run's data and the logs", column=label))


def over_time(times: list[str], rows: list[dict[str, float | None]], label: str) -> str:
    """A line for each name over windows of time."""
    figure, axes = _figure(8.4, 2.7)
    for i, name in enumerate(dict.fromkeys(name for row in rows for name in row)):
        values = [row.get(name) for row in rows]
        axes.plot(
            range(len(rows)), [np.nan if v is None else v for v in values], color=PALETTE[i % len(PALETTE)], lw=1.4,
            marker="o", ms=3.5, label=_written(name),
        )  # fmt: skip
    step = -(-len(times) // 8)
    axes.set_xticks(range(0, len(times), step), [time.replace("T", " ") for time in times[::step]])
    axes.set(ylim=(0, None), ylabel=_written(label))
    axes.grid(color=_INK, alpha=0.25, lw=0.6)
    legend(figure, axes)
    return svg(figure, words("{figure} in time", figure=label))
