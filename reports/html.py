"""A run as one HTML page: no network, no library, explanations and model output always escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..harness.rundir import Run
from ..harness.writing import replace_bytes
from .cards import cards, filters
from .pictures import Pictures
from .plots import PlotView, draw
from .view import view

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: Run, out: Path | None = None) -> Path:
    """Write the report and return its path: beside the run's folder unless `out` names a file.

    A sealed run is never written to, so the page lies outside of it. Raises `UsageError` when a
    card names a picture that isn't the run's.
    """
    page = out or run.path.resolve().with_name(f"{run.id}.html")
    # A model's text may hold half of a surrogate pair, which no file can.
    replace_bytes(page, _render(run, page).encode(errors="replace"))
    return page


def _render(run: Run, page: Path) -> str:
    """The page's text; pictures that don't lie below `page` are copied beside it."""
    from markupsafe import Markup

    shown = cards(run, Pictures(run.path, page))
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("report.html")
        .render(
            run=view(run),
            plots={task["name"]: list(_plots(run, task["name"])) for task in run.tasks},
            cards=shown,
            filters=filters(shown),
            style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_digest=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )


def environment() -> Environment:
    """Templates with autoescape on; a name that isn't there is an error, not an empty string."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = _percent
    return made


def _plots(run: Run, task: str) -> Iterator[PlotView]:
    for plot in run.plots(task):
        drawn = draw(plot)
        if drawn:
            yield drawn


def _percent(share: Any) -> str:
    """0..1 as a CSS length."""
    return f"{100 * float(share):.2f}%"
