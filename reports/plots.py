"""A plot's data as an SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.results import plot_document
from ..harness.task import Plot
from ..harness.writing import clear_errors
from .drawing import COLOURS, MANY, Point, fill, names_of, series_of

# Stand-ins that matplotlib can draw with; each becomes the page's CSS variable.
_INK, _GRID, _PAPER = "#0a0b01", "#0a0b02", "#0a0b03"
_SERIES = tuple(f"#0a0c0{i}" for i in range(1, COLOURS + 1))
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
    "hatch.color": _PAPER,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_ROW = 45
"""Letters of a legend that fit into one row."""


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
    wide = plot["kind"] == "bars" and len(names_of(points)) > MANY
    # The same plot gives the same bytes: ids are hashed with the title, not drawn at random.
    with _style({"svg.hashsalt": str(plot["title"])}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6 if wide else 5.6, 3.4), layout="constrained")
        fill(figure.add_subplot(), plot, points)
        if len(series := series_of(points)) > 1:
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
            fill(axes, document, _drawable(document))
            axes.set_title(plot.title, fontsize=10)
            if len(series_of(plot.points)) > 1:
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


def _inline(svg: str) -> str:
    """The element alone, for a page: no XML head, no fixed size, the page's colours."""
    element = svg[svg.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        element = element.replace(stand_in, f"var({variable})")
    return element
