"""What is drawn between a plot's axes: bars, points, lines, with their intervals and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = Mapping[str, Any]

COLOURS = 6
"""Of series; those after them have other forms in the same colours."""
MANY = 8
"""More names on the axis than this make a plot wide and its names slanted."""
_LONG = 28
"""Longer names are cut; the whole text is on the card."""


class _Form(NamedTuple):
    """What tells series of one colour apart."""

    line: str
    marker: str
    hatch: str | None


_FORMS = (_Form("-", "o", None), _Form("--", "s", "////"), _Form(":", "^", "...."))


def fill(axes: Axes, plot: Mapping[str, Any], points: Sequence[Point]) -> None:
    """Draw the points of a plot document. Raises `KeyError` on an unknown kind."""
    _DRAWERS[plot["kind"]](axes, points)
    axes.set(xlabel=_short(plot["x"]), ylabel=_short(plot["y"]))


def _bars(axes: Axes, points: Sequence[Point]) -> None:
    names, series = names_of(points), series_of(points)
    width = 0.8 / len(series)
    for i, (name, own) in enumerate(series.items()):
        places = [names.index(str(p["x"])) + (i - (len(series) - 1) / 2) * width for p in own]
        heights = [p["y"] for p in own]
        hatch = _form(i).hatch
        axes.bar(places, heights, width * 0.9, color=_colour(i), hatch=hatch, label=_short(name))
        _whiskers(axes, places, own)
    _name_axis(axes, points, names)
    axes.grid(visible=False, axis="x")


def _scatter(axes: Axes, points: Sequence[Point]) -> None:
    names = [] if _numeric(points) else names_of(points)
    for i, (name, own) in enumerate(series_of(points).items()):
        places = [_place(p, names) for p in own]
        axes.scatter(
            places,
            [p["y"] for p in own],
            s=26,
            color=_colour(i),
            marker=_form(i).marker,
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
    names = [] if _numeric(points) else names_of(points)
    for i, (name, own) in enumerate(series_of(points).items()):
        places = [_place(p, names) for p in own]
        axes.plot(
            places,
            [p["y"] for p in own],
            color=_colour(i),
            linestyle=_form(i).line,
            marker=_form(i).marker,
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
        slant = len(names) > MANY or max(map(len, names)) > 14
        axes.set_xticks(
            range(len(names)), names, rotation=35 if slant else 0, ha="right" if slant else "center"
        )


def _short(text: str) -> str:
    """One line of what can be seen: a model's answer may hold anything."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def names_of(points: Sequence[Point]) -> list[str]:
    """What stands below the axis, in the order of the points."""
    return list(dict.fromkeys(str(point["x"]) for point in points))


def _numeric(points: Sequence[Point]) -> bool:
    return all(isinstance(point["x"], int | float) for point in points)


def _place(point: Point, names: Sequence[str]) -> float:
    return names.index(str(point["x"])) if names else float(point["x"])


def series_of(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points by series, in their order; one of no series is of `""`."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(str(point.get("series") or ""), []).append(point)
    return found


def _colour(i: int) -> str:
    return f"C{i % COLOURS}"


def _form(i: int) -> _Form:
    return _FORMS[i // COLOURS % len(_FORMS)]
