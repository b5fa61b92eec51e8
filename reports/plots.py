"""A plot's data as an SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..harness.results import plot_document
from ..harness.task import Plot
from ..harness.writing import clear_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = Mapping[str, Any]

# Stand-ins that matplotlib can draw with; each becomes the page's CSS variable.
_INK, _GRID, _PAPER = "#0a0b01", "#0a0b02", "#0a0b03"
_SERIES = ("#0a0c01", "#0a0c02", "#0a0c03", "#0a0c04", "#0a0c05", "#0a0c06")
_VARIABLES = {
    _INK: "--ink-soft",
    _GRID: "--line",
    _PAPER: "--paper",
    **{stand_in: f"--series-{i}" for i, stand_in in enumerate(_SERIES, start=1)},
}
_ON_PAPER = {
    _INK: "#3d4450",
    _GRID: "#d5d9e0",
    _PAPER: "#ffffff",
    **dict(
        zip(
            _SERIES, ("#2563a8", "#c2570c", "#2f7d4f", "#8a3f8f", "#7a6a12", "#b3324a"), strict=True
        )
    ),
}
"""The same for a file of its own."""
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    # An explanation may hold dollar signs: text is text, never mathematics.
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_MANY = 8
"""More names on the axis than this make a plot wide and its names slanted."""
_ROW = 45
"""Letters of a legend that fit into one row."""
_LONG = 28
"""Longer names are cut; the whole text is on the card."""


@dataclass(frozen=True, slots=True)
class PlotView:
    """A plot as drawn."""

    title: str
    svg: str
    wide: bool


def draw(plot: Mapping[str, Any]) -> PlotView | None:
    """Draw one plot document of a run; None when no point has a value.

    Raises `KeyError` on an unknown kind.
    """
    points = _drawable(plot)
    if not points:
        return None
    wide = plot["kind"] == "bars" and len(_names(points)) > _MANY
    # The same plot gives the same bytes: ids are hashed with the title, not drawn at random.
    with _style({"svg.hashsalt": str(plot["title"])}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6 if wide else 5.6, 3.4), layout="constrained")
        _fill(figure.add_subplot(), plot, points)
        if len(series := _series(points)) > 1:
            columns = 2 if sum(map(len, series)) > _ROW and not wide else 4
            figure.legend(loc="outside upper left", ncols=columns, fontsize=8.5)
        page = StringIO()
        metadata = {"Date": None, "Creator": None}
        figure.savefig(page, format="svg", transparent=True, metadata=metadata)
    return PlotView(str(plot["title"]), _inline(page.getvalue()), wide)


def save_plots(plots: Sequence[Plot], file: Path) -> None:
    """Draw plots under each other into one PNG, SVG or PDF, by the file's ending.

    Raises `UsageError` for another ending or a place that can't be written.
    """
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"can't draw {file.name}; end its name in .png, .svg or .pdf")
    from matplotlib.figure import Figure

    with _style({}, _ON_PAPER), clear_errors(file):
        figure = Figure(figsize=(6.4, 3.6 * len(plots)), layout="constrained", dpi=150)
        for i, plot in enumerate(plots, start=1):
            axes = figure.add_subplot(len(plots), 1, i)
            document = plot_document(plot)
            _fill(axes, document, _drawable(document))
            axes.set_title(plot.title, fontsize=10)
            if len(_series(plot.points)) > 1:
                axes.legend(fontsize=8.5)
        figure.savefig(file)


@contextmanager
def _style(extra: Mapping[str, Any], colours: Mapping[str, str] | None = None) -> Iterator[None]:
    """Ours, with stand-ins for colours unless there are `colours` for them."""
    from cycler import cycler
    from matplotlib import rc_context

    chosen = dict(zip(_VARIABLES, _VARIABLES, strict=True)) if colours is None else colours
    style: Any = {k: chosen.get(v, v) if isinstance(v, str) else v for k, v in _STYLE.items()}
    style["axes.prop_cycle"] = cycler(color=[chosen[stand_in] for stand_in in _SERIES])
    style |= extra
    with rc_context(style), warnings.catch_warnings():
        # The browser brings the letters; matplotlib's own font only serves to measure them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def _drawable(plot: Mapping[str, Any]) -> list[Point]:
    return [point for point in plot["points"] if point.get("y") is not None]


def _fill(axes: Axes, plot: Mapping[str, Any], points: Sequence[Point]) -> None:
    _DRAWERS[plot["kind"]](axes, points)
    axes.set(xlabel=_short(plot["x"]), ylabel=_short(plot["y"]))


def _bars(axes: Axes, points: Sequence[Point]) -> None:
    names, series = _names(points), _series(points)
    width = 0.8 / len(series)
    for i, (name, own) in enumerate(series.items()):
        places = [names.index(str(p["x"])) + (i - (len(series) - 1) / 2) * width for p in own]
        heights = [p["y"] for p in own]
        axes.bar(places, heights, width * 0.9, color=_colour(i), label=_short(name))
        _whiskers(axes, places, own)
    _name_axis(axes, points, names)
    axes.grid(visible=False, axis="x")


def _scatter(axes: Axes, points: Sequence[Point]) -> None:
    names = [] if _numeric(points) else _names(points)
    for i, (name, own) in enumerate(_series(points).items()):
        places = [_place(p, names) for p in own]
        axes.scatter(
            places,
            [p["y"] for p in own],
            s=26,
            color=_colour(i),
            alpha=0.8,
            label=_short(name),
            linewidths=0,
        )
        _whiskers(axes, places, own)
    if len(points) <= 30:
        _name_points(axes, points, names)
    _name_axis(axes, points, names)


def _name_points(axes: Axes, points: Sequence[Point], names: list[str]) -> None:
    """Beside each point, on the side where there is more room: no name leaves the picture."""
    middle = sum(axes.get_xlim()) / 2
    for point in (point for point in points if point.get("label")):
        x = _place(point, names)
        left = x > middle
        text = axes.annotate(
            _short(str(point["label"])),
            (x, point["y"]),
            (-4 if left else 4, 4),
            textcoords="offset points",
            horizontalalignment="right" if left else "left",
            fontsize=8,
        )
        text.set_in_layout(False)


def _reliability(axes: Axes, points: Sequence[Point]) -> None:
    """Beside the diagonal: on it, what is said is what is so."""
    from matplotlib import rcParams

    axes.plot([0, 1], [0, 1], color=rcParams["text.color"], linestyle=":", linewidth=1.1)
    _scatter(axes, points)


def _lines(axes: Axes, points: Sequence[Point]) -> None:
    names = [] if _numeric(points) else _names(points)
    for i, (name, own) in enumerate(_series(points).items()):
        places = [_place(p, names) for p in own]
        axes.plot(
            places,
            [p["y"] for p in own],
            color=_colour(i),
            marker="o",
            markersize=4,
            label=_short(name),
        )
        banded = [
            (x, p["low"], p["high"]) for x, p in zip(places, own, strict=True) if _has_interval(p)
        ]
        if banded:
            x, low, high = zip(*banded, strict=True)
            axes.fill_between(x, low, high, color=_colour(i), alpha=0.15, linewidth=0)
    _name_axis(axes, points, names)


_DRAWERS: Mapping[str, Callable[[Axes, Sequence[Point]], None]] = {
    "bars": _bars,
    "scatter": _scatter,
    "lines": _lines,
    "reliability": _reliability,
}


def _whiskers(axes: Axes, places: Sequence[float], points: Sequence[Point]) -> None:
    from matplotlib import rcParams

    for place, point in zip(places, points, strict=True):
        if _has_interval(point):
            axes.plot(
                [place, place],
                [point["low"], point["high"]],
                color=rcParams["text.color"],
                linewidth=1.1,
            )


def _has_interval(point: Point) -> bool:
    return point.get("low") is not None and point.get("high") is not None


def _name_axis(axes: Axes, points: Sequence[Point], names: Sequence[str]) -> None:
    if all(isinstance(point["x"], int) for point in points):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if names:
        names = [_short(name) for name in names]
        slant = len(names) > _MANY or max(map(len, names)) > 14
        axes.set_xticks(
            range(len(names)), names, rotation=35 if slant else 0, ha="right" if slant else "center"
        )


def _short(text: str) -> str:
    """One line of what can be seen: a model's answer may hold anything."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(str(point["x"]) for point in points))


def _numeric(points: Sequence[Point]) -> bool:
    return all(isinstance(point["x"], int | float) for point in points)


def _place(point: Point, names: Sequence[str]) -> float:
    return names.index(str(point["x"])) if names else float(point["x"])


def _series(points: Sequence[Point]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(str(point.get("series") or ""), []).append(point)
    return found


def _colour(i: int) -> str:
    return f"C{i % len(_SERIES)}"


def _inline(svg: str) -> str:
    """The element alone, for a page: no XML head, no fixed size, the page's colours."""
    element = svg[svg.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        element = element.replace(stand_in, f"var({variable})")
    return element
