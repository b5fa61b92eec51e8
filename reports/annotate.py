"""Self-contained pages on which people rate explanations, 0 or 1, one page a rater.

A page shows pictures and explanation only: neither the judge's verdict nor what kind of item it is.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..harness.rundir import Run
from ..harness.writing import replace_bytes
from .html import environment, template
from .items import QUESTION, Asked, Draw, asked_of, items_sha256
from .pictures import Pictures
from .rating_files import KIND, SCHEMA_VERSION


def export(run: Run, out: Path, n: int = 100, raters: int = 3, seed: int = 0) -> list[Path]:
    """Write `rater-1.html`, ... and return them. Raises `UsageError` for a run without cards."""
    draw = Draw(run.id, n, raters, seed)
    pages = [out / f"rater-{rater}.html" for rater in range(1, raters + 1)]
    # All are made before one is written: a lost picture leaves no half of a set.
    contents = [_render(run, draw, rater, page) for rater, page in enumerate(pages, start=1)]
    for page, content in zip(pages, contents, strict=True):
        replace_bytes(page, content.encode(errors="replace"))
    return pages


def _render(run: Run, draw: Draw, rater: int, page: Path) -> str:
    from markupsafe import Markup

    asked = asked_of(run, draw, rater)
    pictures, items = _shown(asked, Pictures(run.path, page))
    data = {
        "items": items,
        "pictures": pictures,
        "storage": f"{draw.id}/{rater}",
        "file": {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "draw": asdict(draw),
            "page": rater,
            "items_sha256": items_sha256(asked),
        },
    }
    script = template("annotate.js")
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("annotate.html")
        .render(
            question=QUESTION,
            data=data,
            n=len(items),
            minutes=max(5, round(len(items) * 8 / 60)),
            script=Markup(script),
            script_digest=digest,
        )
    )


def _shown(asked: Sequence[Asked], pictures: Pictures) -> tuple[list[str], list[dict[str, Any]]]:
    """Pictures as data URLs, each once, and items that name them by place."""
    names = list(dict.fromkeys(name for one in asked for name in one.images))
    urls = [pictures.inline(name) for name in names]
    items = [
        {
            "key": one.key,
            "explanation": one.explanation,
            "images": [names.index(name) for name in one.images],
        }
        for one in asked
    ]
    return urls, items
