"""What reports show of `chair`: captions with what they made up, and the arms compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ...harness.task import Card, Line, MetricRow, Plot
from ..hallucination.arms import STEERED, UNTOUCHED
from ..hallucination.questions import Question, Record

if TYPE_CHECKING:
    from PIL.Image import Image

CARDS_EACH = 6
"""Figures of each verdict at each SAE."""
_Place = tuple[str | None, str | None]
"""An SAE and its hookpoint: several may share one."""


def caption_cards(
    lines: Sequence[Line],
    figures: Mapping[str, Question],
    image_for: Callable[[Record], Image | None],
) -> Iterator[Card]:
    """Figures whose caption steering mended, spoilt, or left with what isn't there."""
    places: dict[tuple[_Place, str], dict[str, Line]] = {}
    for line in lines:
        key = (line["sae"], line["hookpoint"]), str(line["detail"].get("figure"))
        places.setdefault(key, {})[line["arm"]] = line
    shown: dict[tuple[_Place, str], int] = {}
    for (place, figure), arms in places.items():
        before = places.get(((None, None), figure), {}).get(UNTOUCHED)
        if figure not in figures or before is None or STEERED not in arms:
            continue
        verdict = _verdict(before, arms[STEERED])
        if verdict and shown.get((place, verdict), 0) < CARDS_EACH:
            shown[place, verdict] = shown.get((place, verdict), 0) + 1
            picture = image_for(figures[figure].record)
            yield _card(verdict, {UNTOUCHED: before, **arms}, picture)


def _verdict(before: Line, after: Line) -> str | None:
    """None where nothing was made up, or where there is no caption."""
    if before["status"] != "ok" or after["status"] != "ok":
        return None
    was, now = len(before["detail"]["wrong"]), len(after["detail"]["wrong"])
    if was == now:
        return "still wrong" if now else None
    return "fixed" if now < was else "broken"


def _card(verdict: str, arms: Mapping[str, Line], picture: Image | None) -> Card:
    after = arms[STEERED]
    detail = after["detail"]
    captions = {arm: str(line["detail"].get("text") or "nothing") for arm, line in arms.items()}
    made_up = {
        f"made up, {arm}": ", ".join(arms[arm]["detail"]["wrong"]) or "nothing"
        for arm in (UNTOUCHED, STEERED)
    }
    return Card(
        title=f"figure {detail['figure']}",
        text={"there": ", ".join(detail["objects"]) or "no object", **made_up, **captions},
        images=[("the figure", picture)] if picture else [],
        tags={"hookpoint": str(after["hookpoint"]), "verdict": verdict},
        sample=after["id"],
    )


def caption_plots(rows: Sequence[MetricRow]) -> Iterator[Plot]:
    """What is made up by arm, and what it costs in recall."""
    shown = [r for r in rows if not r.arm.startswith("random_")]
    yield Plot("Objects made up, by arm", "bars", "arm", "CHAIR_i", list(_bars(shown)))
    yield Plot(
        "Recall against objects made up", "scatter", "CHAIR_i", "recall", list(_tradeoff(shown))
    )


def _bars(rows: Iterable[MetricRow]) -> Iterator[dict[str, object]]:
    for row in rows:
        if row.metric == "chair_i":
            yield _point(row, row.arm) | {"low": row.ci_low, "high": row.ci_high}


def _tradeoff(rows: Sequence[MetricRow]) -> Iterator[dict[str, object]]:
    made_up = {(r.arm, r.sae, r.hookpoint): r.value for r in rows if r.metric == "chair_i"}
    for row in rows:
        share = made_up.get((row.arm, row.sae, row.hookpoint))
        if row.metric == "object_recall" and share is not None:
            yield _point(row, share) | {"label": row.arm}


def _point(row: MetricRow, x: object) -> dict[str, object]:
    return {"x": x, "y": row.value, "series": row.hookpoint or "no SAE"}
