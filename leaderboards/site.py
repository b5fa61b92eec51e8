"""The board's page: static, no script, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..harness.writing import replace_bytes
from .board import load_board, stored_document
from .ranking import tables

_TEMPLATES = Path(__file__).parent / "templates"


def build_site(board: Path) -> Path:
    """Write `site/index.html` from the index and the submissions, and return its path.

    Raises `UsageError` when there is no board, `InvalidSubmissionError` (LB013) when a submission
    is no longer what was submitted.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["place"] = _place
    submissions = load_board(board)
    text = environment.get_template("board.html").render(
        tables=tables((s, stored_document(board, s)) for s in submissions),
        n_submissions=len(submissions),
        style=Markup((_TEMPLATES / "board.css").read_text(encoding="utf-8")),
    )
    page = board / "site" / "index.html"
    replace_bytes(page, text.encode(errors="replace"))
    return page


def _place(value: float | None, metric: dict[str, Any]) -> str | None:
    """Where a value lies on its metric's range, as a CSS length; None without bounds."""
    low, high = metric.get("range") or (None, None)
    if value is None or low is None or high is None or high <= low:
        return None
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.2f}%"
