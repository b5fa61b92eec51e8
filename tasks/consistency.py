"""Task `consistency`: does a judge tell a latent's explanation from foils?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..harness.task import Card, Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.cards import item_cards
from .features.clip_scores import wrong_labels
from .features.foils import in_random_order, items
from .features.judges import ChatJudge, LabelJudge
from .features.masks import packed, unpacked
from .features.plots import by_concept, by_layer
from .features.segment import ExactMasks
from .features.study import cached_images, refuse_unknown, studies
from .features.verdicts import verdict_rows

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.foils import Item
    from .features.imageset import ImageSet
    from .features.judges import Judge, Verdict
    from .features.study import Study
    from .subject import Subject

PER_CONCEPT = 100
"""Latents of a concept and SAE that are judged, drawn at random when there are more."""

METRICS = (
    Metric(
        "youden_j",
        "Youden's J",
        "TPR - FPR: 0 for a judge that always says the same, 1 for one that tells all foils",
        higher_is_better=True,
        range=(-1, 1),
        headline=True,
    ),
    Metric(
        "tpr",
        "true accepted",
        "share of the latents' own explanations that the judge accepts: the paper's consistency",
        higher_is_better=True,
        range=(0, 1),
        headline=True,
    ),
    Metric(
        "fpr",
        "foils accepted",
        "share of the foils that the judge accepts",
        higher_is_better=False,
        range=(0, 1),
        headline=True,
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "mean of the share of true items accepted and of foils turned down",
        higher_is_better=True,
        range=(0, 1),
    ),
)


class Consistency(Task["Subject"]):
    """One true item and one foil a latent, judged blind in random order on held-out images."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="consistency",
        version=1,
        title="Consistency of explanations",
        description="Whether a judge accepts explanations and turns down foils. The embedded label "
        "judge (fits when the label covers half of the lit patches in 3 of 5 images) shares its "
        "truth with `iou`: it checks the explanations, not the images.",
        metrics=METRICS,
        cluster="latent",
        unscorable="no explanation, or a reply that is not 0 or 1: left out, shown as coverage",
    )
    batch_size: ClassVar[int] = 8
    can_rejudge: ClassVar[bool] = True

    def __init__(self) -> None:
        self._judges: dict[int, Judge] = {}

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context, "per_concept")
        limit = int(context.params.get("per_concept", PER_CONCEPT))
        pairs = []
        for study in studies(context):
            if study.arm == "main":
                wrong = wrong_labels(study, context)
                vocabulary = context.subject.provider.vocabulary
                kept = set(_sampled(study, limit, context.seed))
                everything = items(study, wrong, vocabulary, context.seed)
                pairs += [pair for pair in everything if pair[0].latent in kept]
        return [_sample(item) for item in in_random_order(pairs, context.seed)]

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        judge = self._judge(context)
        return [_outcome(sample, judge, context) for sample in samples]

    def rejudge(self, lines: Sequence[Line], context: Context[Subject]) -> Sequence[Outcome]:
        judge, images = self._judge(context), context.subject.score
        return [_rejudged(line, judge, images) for line in lines]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return list(verdict_rows(lines))

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        return item_cards(lines, {s.id: s.payload for s in self.samples(context)}, context)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "youden_j", "Consistency (Youden's J) by layer")
        yield by_concept(rows, "youden_j", "Consistency (Youden's J) by concept")

    def _judge(self, context: Context[Subject]) -> Judge:
        """One judge a run: its caches live as long as the context."""
        if id(context) not in self._judges:
            subject = context.subject
            client = subject.judge
            labels = LabelJudge(subject.score, ExactMasks())
            chosen: Judge = ChatJudge(client, cached_images(subject.score)) if client else labels
            self._judges = {id(context): chosen}
        return self._judges[id(context)]


def _sampled(study: Study, limit: int, seed: int) -> Iterator[int]:
    """Latents to judge: at most `limit` a concept; those without an explanation are one group."""
    groups: dict[str | None, list[int]] = {}
    for latent, said in study.explanations.items():
        groups.setdefault(said.concept, []).append(latent)
    for concept in sorted(groups, key=str):
        rng = np.random.default_rng([seed, len(groups[concept])])
        yield from rng.permutation(groups[concept])[:limit].tolist()


def _sample(item: Item) -> Sample:
    study = item.study
    return Sample(
        id=f"{study.name(item.latent)}/{item.kind}",
        cluster=study.name(item.latent),
        arm="main" if item.kind == "true" else "foil",
        sae=study.sae.name,
        hookpoint=study.sae.hookpoint.name,
        latent=item.latent,
        concept=study.explanations[item.latent].concept,
        payload=item,
    )


def _outcome(sample: Sample, judge: Judge, context: Context[Subject]) -> Outcome:
    item: Item = sample.payload
    about = {"item": item.kind, "explanation": item.explanation}
    if item.explanation is None:
        return Outcome.unscorable(item.reason or "no explanation", **about)
    images = context.subject.score
    pictures = list(item.pictures(images.size, context.seed))
    if not pictures:
        return Outcome.unscorable("silent on held-out images", **about)
    shown = {"lit": [[images.ids[index], packed(mask)] for index, mask in pictures]}
    verdict = judge.verdict(item.explanation, pictures, sample.id)
    return _scored(item.kind, verdict, {**about, **shown})


def _rejudged(line: Line, judge: Judge, images: ImageSet) -> Outcome:
    """Of the explanation and the lit pixels that the line keeps."""
    if line["status"] == "error":
        return Outcome("error", error="it broke in the run itself; nothing is kept to judge")
    detail = line["detail"]
    about = {key: detail[key] for key in ("item", "explanation", "lit") if key in detail}
    if "lit" not in detail:
        return Outcome.unscorable(detail["reason"], **about)
    places = {name: index for index, name in enumerate(images.ids)}
    pictures = [(places[name], unpacked(text, images.size)) for name, text in detail["lit"]]
    return _scored(
        detail["item"], judge.verdict(detail["explanation"], pictures, line["id"]), about
    )


def _scored(kind: str, verdict: Verdict, about: Mapping[str, Any]) -> Outcome:
    if verdict.value is None:
        return Outcome.unscorable(verdict.reason or "no verdict", **about, **verdict.detail)
    score = "tpr" if kind == "true" else "fpr"
    return Outcome.ok({score: float(verdict.value)}, **about, **verdict.detail)
