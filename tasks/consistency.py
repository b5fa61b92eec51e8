"""Task `consistency`: does a judge tell a latent's explanation from foils?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import ChatError
from ..harness.crowd import each
from ..harness.task import Card, Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.cards import item_cards
from .features.clip_scores import wrong_labels
from .features.explain import without_label
from .features.foils import Item, in_random_order, items
from .features.judges import ChatJudge, LabelJudge
from .features.masks import packed, unpacked
from .features.plots import by_concept, by_layer
from .features.probe_rows import PROBE_METRICS, probe_rows
from .features.probes import (
    ORDERS,
    PROBED,
    REPEATED,
    Again,
    Choice,
    first_of,
    probe_sample,
    probes,
    time_of,
)
from .features.segment import ExactMasks
from .features.study import cached_images, refuse_unknown, studies
from .features.verdicts import verdict_rows
from .needs import CLIP, EXEMPLARS, EXPLANATIONS, JUDGE

if TYPE_CHECKING:
    from ..harness.task import Context
    from .features.imageset import ImageSet
    from .features.judges import Judge, Pictures, Verdict
    from .features.study import Study
    from .subject import Subject

_KEPT = ("item", "explanation", "against", "lit")
"""Of a line: what another judge is shown."""
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
    """One true item and one foil a latent, judged blind in random order.

    Protocol `strict`: held-out images, latents drawn at random by concept, probes of the judge.
    `paper`: the images that the explanation was written from, the first latents of a concept, no
    probes; the paper's number is `tpr`. It had no foils: here they stay, as its control.
    """

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="consistency",
        version=2,
        title="Consistency of explanations",
        description="Whether a judge accepts explanations and turns down foils. The embedded label "
        "judge (fits when the label covers half of the lit patches in 3 of 5 images) shares its "
        "truth with `iou`: it checks the explanations, not the images.",
        metrics=(*METRICS, *PROBE_METRICS),
        cluster="latent",
        protocols=("strict", "paper"),
        unscorable="no explanation, or a reply that is not in the form that was asked for: left "
        "out, shown as coverage",
    )
    batch_size: ClassVar[int] = 32
    can_rejudge: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = (JUDGE, EXPLANATIONS, EXEMPLARS, CLIP)

    def __init__(self) -> None:
        self._judges: dict[int, Judge] = {}

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context, "per_concept", "probed")
        pairs, probed = [], []
        for study in studies(context):
            if study.arm == "main":
                wrong = wrong_labels(study, context)
                mine = _pairs(study, wrong, context)
                pairs += mine
                limit = _probed(context)
                found = probes(mine, wrong, limit, context.seed)
                probed += [probe_sample(*probe) for probe in found]
        judged = [_sample(item) for item in in_random_order(pairs, context.seed)]
        return [*judged, *probed]

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        judge = self._judge(context)
        return each(lambda sample: _outcome(sample, judge, context), samples, judge.at_once)

    def rejudge(self, lines: Sequence[Line], context: Context[Subject]) -> Sequence[Outcome]:
        judge, images = self._judge(context), _images(context)
        return each(lambda line: _rejudged(line, judge, images), lines, judge.at_once)

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return [*verdict_rows(lines), *probe_rows(lines)]

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        samples = self.samples(context)
        asked = {s.id: s.payload for s in samples if isinstance(s.payload, Item)}
        return item_cards(lines, asked, _images(context), context)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "youden_j", "Consistency (Youden's J) by layer")
        yield by_concept(rows, "youden_j", "Consistency (Youden's J) by concept")

    def _judge(self, context: Context[Subject]) -> Judge:
        """One judge a run: its caches live as long as the context."""
        if id(context) not in self._judges:
            client, images = context.subject.judge, _images(context)
            labels = LabelJudge(images, ExactMasks())
            chosen: Judge = ChatJudge(client, cached_images(images)) if client else labels
            self._judges = {id(context): chosen}
        return self._judges[id(context)]


def _images(context: Context[Subject]) -> ImageSet:
    """What is shown: held-out images, and by `paper` those that the explainer saw."""
    subject = context.subject
    return subject.search if context.protocol == "paper" else subject.score


def _probed(context: Context[Subject]) -> int:
    return 0 if context.protocol == "paper" else int(context.params.get("probed", PROBED))


def _pairs(
    study: Study, wrong: Mapping[str, str], context: Context[Subject]
) -> list[tuple[Item, Item]]:
    limit = int(context.params.get("per_concept", PER_CONCEPT))
    paper = context.protocol == "paper"
    kept = set(_first(study, limit) if paper else _sampled(study, limit, context.seed))
    everything = items(study, wrong, context.subject.provider.vocabulary, context.seed)
    pairs = [pair for pair in everything if pair[0].latent in kept]
    if not paper:
        return pairs
    return [(replace(a, split="search"), replace(b, split="search")) for a, b in pairs]


def _first(study: Study, limit: int) -> Iterator[int]:
    """The first latents of each concept, as the paper took them."""
    taken: dict[str | None, int] = {}
    for latent, said in study.explanations.items():
        taken[said.concept] = taken.get(said.concept, 0) + 1
        if taken[said.concept] <= limit:
            yield latent


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
    probe: Item | Choice | Again = sample.payload
    item = probe if isinstance(probe, Item) else probe.item
    about: dict[str, Any] = {"item": item.kind, "explanation": item.explanation}
    said = item.study.explanations[item.latent]
    if said.status == "error":
        return without_label(said)
    if item.explanation is None:
        return Outcome.unscorable(item.reason or "no explanation", **about)
    images = _images(context)
    pictures = list(item.pictures(images.size_of, context.seed))
    if not pictures:
        return Outcome.unscorable("silent on held-out images", **about)
    if isinstance(probe, Choice):
        about["against"] = probe.foil
    about["lit"] = [[images.ids[index], packed(mask)] for index, mask in pictures]
    return _judged(sample.id, sample.arm, about, pictures, judge)


def _rejudged(line: Line, judge: Judge, images: ImageSet) -> Outcome:
    """Of the explanation and the lit pixels that the line keeps."""
    if line["status"] == "error":
        return Outcome("error", error="it broke in the run itself; nothing is kept to judge")
    detail = line["detail"]
    about = {key: detail[key] for key in _KEPT if key in detail}
    if "lit" not in detail:
        return Outcome.unscorable(detail["reason"], **about)
    places = {name: index for index, name in enumerate(images.ids)}
    lit = [(places[name], text) for name, text in detail["lit"]]
    pictures = [(index, unpacked(text, images.size_of(index))) for index, text in lit]
    return _judged(line["id"], line["arm"], about, pictures, judge)


def _judged(
    sample: str, arm: str, about: Mapping[str, Any], pictures: Pictures, judge: Judge
) -> Outcome:
    """What the judge says of an item, a choice or an item again."""
    try:
        verdict = _verdict(sample, arm, about, pictures, judge)
    except ChatError as error:
        return Outcome.broken(error)
    if verdict.value is None:
        return Outcome.unscorable(verdict.reason or "no verdict", **about, **verdict.detail)
    return Outcome.ok(_scores(arm, about["item"], verdict.value), **about, **verdict.detail)


def _verdict(
    sample: str, arm: str, about: Mapping[str, Any], pictures: Pictures, judge: Judge
) -> Verdict:
    said = str(about["explanation"])
    if arm in ORDERS:
        first, second = said, str(about["against"])
        if arm != ORDERS[0]:
            first, second = second, first
        return judge.choice(first, second, pictures, sample)
    if arm == REPEATED:
        # By the item's own name: asked again, the question must be the same to the letter.
        return judge.verdict(said, pictures, first_of(sample), again=time_of(sample))
    return judge.verdict(said, pictures, sample)


def _scores(arm: str, kind: str, value: int) -> dict[str, float]:
    if arm in ORDERS:
        right = value if arm == ORDERS[0] else 1 - value
        return {"chose_true": float(right), "chose_first": float(value)}
    if arm == REPEATED:
        return {"verdict": float(value)}
    return {"tpr" if kind == "true" else "fpr": float(value)}
