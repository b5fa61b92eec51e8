"""A run as an HTML page: no network, no library, explanations and model output always escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..harness.rundir import Run
from ..harness.writing import replace_bytes
from .browser import as_json, few, write_cards
from .cards import cards, filters, score_names
from .pictures import Pictures
from .plots import PlotView, draw
from .view import view

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class _Cards:
    """What the page says of its cards; they themselves are drawn by its script."""

    total: int
    held: int
    """Those that can be looked at: all, unless the page is to be a single file."""
    filters: Mapping[str, list[str]]
    scores: Sequence[str]
    sources: Sequence[str]
    """Scripts beside the page that bring cards."""
    inline: Markup | None
    """Cards within the page."""


def write_report(run: Run, out: Path | None = None, *, single_file: bool = False) -> Path:
    """Write the report and return the page's path: beside the run's folder unless `out` names one.

    `out` is a page when it ends in `.html`, else a folder that gets an `index.html`. Cards lie in a
    folder beside the page, `<page>-files`; with `single_file` some of them lie in the page itself,
    pictures and all. A sealed run is never written to, so the page lies outside of it. Raises
    `UsageError` when a card names a picture that isn't the run's.
    """
    page = _page(run, out)
    text = _render(run, _held(run, page, single_file))
    # A model's text may hold half of a surrogate pair, which no file can.
    replace_bytes(page, text.encode(errors="replace"))
    return page


def _page(run: Run, out: Path | None) -> Path:
    if out is None:
        return run.path.resolve().with_name(f"{run.id}.html")
    return out if out.suffix == ".html" else out / "index.html"


def _held(run: Run, page: Path, single_file: bool) -> _Cards:
    """Write what lies beside the page; pictures that don't lie below it are copied there."""
    from markupsafe import Markup

    pictures, shown = Pictures(run.path, page), cards(run)
    held = few(shown) if single_file else shown
    return _Cards(
        total=len(shown),
        held=len(held),
        filters=filters(held),
        scores=score_names(held),
        sources=[] if single_file else write_cards(held, page, pictures.link),
        inline=Markup(as_json(held, pictures.inline)) if single_file else None,
    )


def _render(run: Run, held: _Cards) -> str:
    from markupsafe import Markup

    script = template("report.js")
    return (
        environment()
        .get_template("report.html")
        .render(
            run=view(run),
            plots={task["name"]: list(_plots(run, task["name"])) for task in run.tasks},
            cards=held,
            style=Markup(template("report.css")),
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


def template(name: str) -> str:
    """A template's text as it is: scripts and styles."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _plots(run: Run, task: str) -> Iterator[PlotView]:
    for plot in run.plots(task):
        drawn = draw(plot)
        if drawn:
            yield drawn


def _percent(share: Any) -> str:
    """0..1 as a CSS length."""
    return f"{100 * float(share):.2f}%"
