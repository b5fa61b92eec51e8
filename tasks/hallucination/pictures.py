"""What reports show of the `halluc` task: question families as cards, arms as plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ...harness.task import Card, Line, MetricRow, Plot
from .arms import RANDOM, RECONSTRUCTION, STEERED, STEERED_GLOBAL, STEERED_REPLACE, UNTOUCHED
from .benchmark import NO, YES
from .controls import DOSES
from .questions import Question, Record
from .rows import OFFSET_BEST, OFFSET_MATCHED, OFFSET_TOPIC, PRIOR, RANDOM_MEAN
from .scoring import Answered, by_item

if TYPE_CHECKING:
    from PIL.Image import Image

CARDS_EACH = 6
"""Cards of each verdict at each hookpoint."""
NAMED = {"VS/map/9/question0": "the paper's Bolivia example"}
"""Pairs that are shown whatever became of them."""
_SHOWN = (UNTOUCHED, STEERED, STEERED_REPLACE, STEERED_GLOBAL, RECONSTRUCTION, f"{RANDOM}_00")
_PLOTTED = (
    STEERED,
    STEERED_REPLACE,
    STEERED_GLOBAL,
    RECONSTRUCTION,
    OFFSET_MATCHED,
    RANDOM_MEAN,
)
Arms = Mapping[str, Mapping[str, Answered]]


Notes = tuple[Mapping[str, str], Sequence[tuple[str, "Image"]]]
"""Of a pair's features: a text on each, and its maps under a caption."""
Features = Callable[[str, str, Sequence[Question]], Notes]
"""What is known of the latents of the SAE of this name and hookpoint on the questions of a pair."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The answers at one SAE."""

    sae: str
    hookpoint: str
    arms: Arms
    ids: Mapping[str, str]
    """By item, the id of the steered sample: several SAEs may share a hookpoint."""
    edits: Mapping[str, str]
    """By topic."""


def family_cards(
    lines: Sequence[Line],
    questions: Mapping[str, Question],
    image_for: Callable[[Record], Image | None],
    features: Features | None = None,
) -> Iterator[Card]:
    """Question pairs with all figures: those that steering fixed, broke, or left wrong."""
    base = by_item(line for line in lines if line["arm"] == UNTOUCHED)
    for sae, hookpoint in dict.fromkeys((x["sae"], x["hookpoint"]) for x in lines if x["sae"]):
        here = [x for x in lines if (x["sae"], x["hookpoint"]) == (sae, hookpoint)]
        arms = {arm: by_item(x for x in here if x["arm"] == arm) for arm in _SHOWN[1:]}
        ids = {x["detail"].get("item", ""): x["id"] for x in here if x["arm"] == STEERED}
        place = _Place(sae, hookpoint, {UNTOUCHED: base, **arms}, ids, _edits(here))
        yield from _cards_at(place, questions, image_for, features)


def _cards_at(
    place: _Place,
    questions: Mapping[str, Question],
    image_for: Callable[[Record], Image | None],
    features: Features | None,
) -> Iterator[Card]:
    shown: dict[str, int] = {}
    for pair in _pairs(questions.values()):
        named = NAMED.get(pair[0].pair)
        verdict = _verdict(pair, place.arms) or ("right" if named else None)
        if verdict is not None and (named or shown.get(verdict, 0) < CARDS_EACH):
            shown[verdict] = shown.get(verdict, 0) + 1
            card = _card(place, verdict, pair, image_for)
            card.tags = {**card.tags, **({"case": named} if named else {})}
            if features is not None:
                answered = [q for q in pair if q.id in place.arms[UNTOUCHED]]
                text, maps = features(place.sae, place.hookpoint, answered)
                card.text, card.images = {**card.text, **text}, [*card.images, *maps]
            yield card


def _edits(lines: Iterable[Line]) -> dict[str, str]:
    """By topic, what was done to which latents, fold by fold where there are several."""
    said: dict[str, list[str]] = {}
    for line in lines:
        for topic, edit in line["detail"].get("edits", {}).items():
            latents = ", ".join(str(latent) for latent in edit["latents"])
            said.setdefault(topic, []).append(f"latents {latents} times {edit['scale']:g}")
    return {topic: "; ".join(dict.fromkeys(texts)) for topic, texts in said.items()}


def _pairs(questions: Iterable[Question]) -> list[list[Question]]:
    pairs: dict[str, list[Question]] = {}
    for question in questions:
        pairs.setdefault(question.pair, []).append(question)
    return list(pairs.values())


def _verdict(pair: Sequence[Question], arms: Arms) -> str | None:
    """What became of a pair that was wrong somewhere; None when nothing was."""
    asked = [q.id for q in pair if q.id in arms[UNTOUCHED] and q.id in arms[STEERED]]
    changes = [(arms[UNTOUCHED][i].right, arms[STEERED][i].right) for i in asked]
    if any(before and not after for before, after in changes):
        return "broken"
    if any(after and not before for before, after in changes):
        return "fixed"
    return "still wrong" if any(not after for _, after in changes) else None


def _card(
    place: _Place,
    verdict: str,
    pair: Sequence[Question],
    image_for: Callable[[Record], Image | None],
) -> Card:
    arms = place.arms
    first = pair[0]
    figures = [(_caption(q, arms), image_for(q.record)) for q in pair]
    margins = {
        f"margin, {arm}, figure {q.record['figure_id']}": arms[arm][q.id].margin
        for arm in (UNTOUCHED, STEERED)
        for q in pair
        if q.id in arms[arm]
    }
    return Card(
        title=first.text,
        text={
            "truth": _said(pair, lambda q: YES if q.gt else NO),
            **_answers(pair, arms),
            "edit": place.edits.get(first.topic, "none"),
        },
        scores=margins,
        images=[(caption, image) for caption, image in figures if image is not None],
        tags={
            "hookpoint": place.hookpoint,
            "kind": first.kind,
            "topic": first.topic,
            "verdict": verdict,
        },
        sample=place.ids.get(first.id),
    )


def _answers(pair: Sequence[Question], arms: Arms) -> dict[str, str]:
    """Under each arm, the answers figure by figure."""
    return {arm: _said(pair, partial(_answer_under, arms[arm])) for arm in arms}


def _answer_under(answers: Mapping[str, Answered], question: Question) -> str:
    return _word(answers.get(question.id))


def _said(pair: Sequence[Question], word: Callable[[Question], str]) -> str:
    return ", ".join(f"figure {q.record['figure_id']}: {word(q)}" for q in pair)


def _word(answered: Answered | None) -> str:
    return "not asked" if answered is None else answered.answer or "neither yes nor no"


def _caption(question: Question, arms: Arms) -> str:
    truth = YES if question.gt else NO
    said = ", ".join(f"{arm} {_word(arms[arm].get(question.id))}" for arm in (UNTOUCHED, STEERED))
    return f"figure {question.record['figure_id']}: truth {truth}; {said}"


def arm_plots(rows: Sequence[MetricRow]) -> Iterator[Plot]:
    """Net by arm, corrected against broken, and wrong answers by kind."""
    overall = [r for r in rows if r.concept is None and r.arm in _PLOTTED]
    net = [_point(r, r.arm, r.hookpoint) for r in overall if r.metric == "net"]
    yield Plot("Net change of accuracy by arm", "bars", "arm", "net", net)
    yield Plot("Corrected against broken", "scatter", "broken", "corrected", _tradeoff(overall))
    yield from _dose_plots(overall_doses(rows))
    prior = [r for r in rows if r.metric == "net" and r.concept == PRIOR]
    kept = {*_PLOTTED, OFFSET_BEST, OFFSET_TOPIC}
    points = [_point(r, r.arm, r.hookpoint or "any") for r in prior if r.arm in kept]
    yield Plot("Net on prior items by arm", "bars", "arm", "net", points)
    yield Plot("Wrong answers by kind", "bars", "kind", "share wrong", _wrong(rows))


def overall_doses(rows: Sequence[MetricRow]) -> list[tuple[float, MetricRow]]:
    """Rows of the steered arm and of its doses, with the dose; empty without dose arms."""
    doses = {**DOSES, STEERED: 1.0}
    found = [(doses[r.arm], r) for r in rows if r.concept is None and r.arm in doses]
    return found if any(r.arm != STEERED for _, r in found) else []


def _dose_plots(dosed: Sequence[tuple[float, MetricRow]]) -> Iterator[Plot]:
    """How the answers follow the strength, and what a correction costs along the way."""
    if not dosed:
        return
    net = [_point(r, dose, r.hookpoint) for dose, r in dosed if r.metric == "net"]
    hookpoints = dict.fromkeys(r.hookpoint for _, r in dosed)
    net += [{"x": 0.0, "y": 0.0, "series": hookpoint} for hookpoint in hookpoints]
    net.sort(key=lambda point: (str(point["series"]), point["x"]))
    yield Plot("Dose and response", "lines", "dose (1 is the chosen strength)", "net", net)
    pareto = _tradeoff([r for _, r in dosed])
    yield Plot("Pareto: corrected against broken by dose", "scatter", "broken", "corrected", pareto)


def _point(row: MetricRow, x: object, series: str | None) -> dict[str, object]:
    return {"x": x, "y": row.value, "low": row.ci_low, "high": row.ci_high, "series": series}


def _tradeoff(rows: Sequence[MetricRow]) -> list[dict[str, object]]:
    broken = {(r.arm, r.hookpoint): r.value for r in rows if r.metric == "regression"}
    return [
        _point(r, broken[r.arm, r.hookpoint], r.hookpoint) | {"label": r.arm}
        for r in rows
        if r.metric == "correction" and r.value is not None and (r.arm, r.hookpoint) in broken
    ]


def _wrong(rows: Sequence[MetricRow]) -> list[dict[str, object]]:
    return [
        _point(
            r, f"{r.concept}, {r.metric.replace('_', ' ')}", f"{r.arm} {r.hookpoint or ''}".strip()
        )
        for r in rows
        if r.metric in ("wrong_yes", "wrong_no") and r.arm in (UNTOUCHED, STEERED)
    ]
