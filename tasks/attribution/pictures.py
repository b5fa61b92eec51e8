"""What reports show of `attr_faithfulness`: curves by order, predicted against exact, questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ...harness.results import layer_of
from ...harness.task import Card, Line, MetricRow, Plot
from ..features.plots import by_layer
from ..hallucination.questions import Question, Record
from .measuring import ARMS, MAIN
from .scores import SHARES

if TYPE_CHECKING:
    from PIL.Image import Image

CARDS_EACH = 8
"""Questions shown at each hookpoint, evenly over the ranks of their correlation."""
_DOTS = 300


def curve_plots(lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterator[Plot]:
    """Insertion and deletion by order, correlation by layer, single latents."""
    ok = [line for line in lines if line["status"] == "ok"]
    for hookpoint in dict.fromkeys(line["hookpoint"] for line in ok):
        here = [line for line in ok if line["hookpoint"] == hookpoint]
        for curve, done in (("insertion", "kept"), ("deletion", "taken away")):
            title = f"{curve.capitalize()} at layer {layer_of(hookpoint)}"
            points = [p for arm in ARMS for p in _curve(here, arm, curve)]
            yield Plot(title, "lines", f"share of latents {done}", "share of the effect", points)
        title = f"Predicted against exact at layer {layer_of(hookpoint)}"
        yield Plot(title, "scatter", "attribution", "exact effect", _dots(here))
    yield by_layer(rows, "pearson", "Correlation with ablation by layer")


def _curve(lines: Sequence[Line], arm: str, curve: str) -> list[dict[str, object]]:
    heights = [line["detail"][curve] for line in lines if line["arm"] == arm]
    return [
        {"x": share, "y": sum(column) / len(column), "series": arm}
        for share, column in zip(SHARES, zip(*heights, strict=True), strict=False)
    ]


def _dots(lines: Sequence[Line]) -> list[dict[str, object]]:
    dots = [
        {"x": predicted, "y": exact, "series": line["arm"], "label": f"latent {latent}"}
        for line in lines
        for latent, predicted, exact in line["detail"].get("singles", ())
    ]
    return dots[:: max(1, len(dots) // _DOTS)]


def question_cards(
    lines: Sequence[Line],
    image_for: Callable[[Record], Image | None],
    questions: Sequence[Question],
) -> Iterator[Card]:
    """Questions with the latents that their answers are attributed to."""
    by_id = {question.id: question for question in questions}
    main = [x for x in lines if x["arm"] == MAIN and "pearson" in x["scores"]]
    for hookpoint in dict.fromkeys(line["hookpoint"] for line in main):
        here = [line for line in main if line["hookpoint"] == hookpoint]
        here.sort(key=lambda line: -line["scores"]["pearson"])
        for line in here[:: max(1, len(here) // CARDS_EACH)][:CARDS_EACH]:
            yield _card(line, by_id[line["detail"]["question"]], image_for)


def _card(line: Line, question: Question, image_for: Callable[[Record], Image | None]) -> Card:
    detail = line["detail"]
    image = image_for(question.record)
    latents = {
        f"latent {latent}": f"predicted {predicted:+.3f}, exact {exact:+.3f}"
        for latent, predicted, exact in detail["singles"]
    }
    margin = f"{detail['m']:+.2f}, without any latent {detail['m_without']:+.2f}"
    return Card(
        title=question.text,
        text={"logit(yes) - logit(no)": margin, **latents},
        scores=dict(line["scores"]),
        images=[(f"figure {question.record['figure_id']}", image)] if image else [],
        tags={"hookpoint": line["hookpoint"], "sae": line["sae"], "topic": question.topic},
        sample=line["id"],
    )
