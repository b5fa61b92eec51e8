"""Task `core`: how faithful and how sparse is an SAE, for pictures, for words, for the answer?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..harness.task import Line, Metric, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .features.plots import by_layer
from .features.study import living, refuse_unknown
from .features.tables import cells, cluster_totals, pooled_interval, row, scored
from .hallucination.questions import NO_FIGURE, Question
from .needs import EXEMPLARS

if TYPE_CHECKING:
    from ..harness.statistics import Interval
    from ..harness.task import Context
    from ..sae.sae import TrainedSae
    from .features.fidelity import Fidelity
    from .features.tables import Cell, Table
    from .hallucination.asking import Asker
    from .subject import Subject

QUESTIONS = 48
"""Dev questions with a figure that the stream is replaced under."""
NO_SCALE = "hardly a scale: chance can explain the harm that zero ablation of these tokens does"
ARMS = ("main", "untrained", "mean")
"""`mean`: every token of the kind is replaced by their mean, which any SAE should beat."""
_KINDS = {"": "all tokens", "_image": "image tokens", "_text": "text tokens"}


def _metrics() -> Iterator[Metric]:
    for suffix, tokens in _KINDS.items():
        fvu = f"squared error of the reconstruction over the variance of the stream, {tokens}"
        yield Metric(f"fvu{suffix}", f"FVU, {tokens}", fvu, False, range=(0, None))
        l0 = f"latents above 0 a token, {tokens}"
        yield Metric(f"l0{suffix}", f"L0, {tokens}", l0, None, unit="latents", range=(0, None))
        ce = f"(CE_zero - CE_sae) / (CE_zero - CE_clean) of the true answer, {tokens} replaced"
        title = f"cross-entropy recovered, {tokens}"
        yield Metric(f"ce_recovered{suffix}", title, ce, True, range=(None, None))
        about = f"1 - shift of logit(yes) - logit(no) over that of zero ablation, {tokens} replaced"
        title = f"answer logit recovered, {tokens}"
        yield Metric(
            f"logit_recovered{suffix}", title, about, True, range=(None, 1), headline=not suffix
        )
        flip = f"share of answers that change sides when {tokens} are replaced"
        yield Metric(f"flip{suffix}", f"answers flipped, {tokens}", flip, False, range=(0, 1))
    dead = "share of latents that fire on no image token of the search set"
    yield Metric("dead", "dead latents", dead, False, range=(0, 1))
    density = "median over live latents of the share of image tokens that they fire on"
    yield Metric("density", "density", density, None, range=(0, 1))


@dataclass(frozen=True, slots=True)
class CoreItem:
    """One question through one SAE, or through none."""

    sae: TrainedSae
    arm: str
    question: Question


class Core(Task["Subject"]):
    """Fidelity by kind of token on yes/no questions; sparsity on the search images."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        name="core",
        version=1,
        title="Core",
        description="Reconstruction, sparsity and what the model's answers lose, by kind of token.",
        metrics=tuple(_metrics()),
        cluster="image family",
    )
    batch_size: ClassVar[int] = QUESTIONS
    needs: ClassVar[tuple[str, ...]] = (EXEMPLARS,)

    def samples(self, context: Context[Subject]) -> Iterable[Sample]:
        refuse_unknown(context)
        asked = _questions(context)
        for sae in context.subject.saes:
            for arm in ("main", "mean") if sae.arm == "main" else (sae.arm,):
                yield from (_sample(sae, arm, question) for question in asked)
        for one in living(context):
            rates = one.search.rate[list(one.census.live)]
            scores = {"dead": one.census.dead / one.census.n_latents}
            scores |= {"density": float(np.median(rates))} if len(rates) else {}
            yield _sample(one.sae, one.sae.arm, None, Outcome.ok(scores))

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> Sequence[Outcome]:
        found: list[Outcome] = []
        for _, group in groupby(samples, key=_same_forward):
            some = list(group)
            if isinstance(some[0].payload, Outcome):
                found += [sample.payload for sample in some]
            else:
                found += _outcomes([sample.payload for sample in some], context)
        return found

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        asked = [line for line in lines if not line["id"].endswith("/census")]
        census = [line for line in lines if line["id"].endswith("/census")]
        return [*_rows(asked), *_census_rows(census)]

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield by_layer(rows, "fvu", "FVU by layer")
        yield by_layer(rows, "logit_recovered", "Answer logit recovered by layer")


def _questions(context: Context[Subject]) -> list[Question]:
    records = context.subject.dev_questions.records
    seen = [Question(r) for r in records if r["visual_input"] != NO_FIGURE and r["filename"]]
    rng = np.random.default_rng([context.seed, len(seen)])
    return [seen[i] for i in sorted(rng.permutation(len(seen))[:QUESTIONS].tolist())]


def _sample(sae: TrainedSae, arm: str, question: Question | None, payload: Any = None) -> Sample:
    where = f"{sae.name}/{sae.hookpoint.name}/{arm}"
    return Sample(
        id=f"{where}/{question.id if question else 'census'}",
        cluster=question.family if question else where,
        arm=arm,
        sae=sae.name,
        hookpoint=sae.hookpoint.name,
        payload=CoreItem(sae, arm, question) if question else payload,
    )


def _same_forward(sample: Sample) -> tuple[Any, ...]:
    return (sample.sae, sample.hookpoint, sample.arm, isinstance(sample.payload, Outcome))


def _outcomes(items: Sequence[CoreItem], context: Context[Subject]) -> list[Outcome]:
    asker, fidelity = _tools(context)
    questions = [item.question for item in items]
    sae = None if items[0].arm == "mean" else items[0].sae.sae
    hookpoint = items[0].sae.hookpoint
    truth = [question.gt for question in questions]
    outcomes = []
    for losses in fidelity.losses(asker.batch(questions), truth, hookpoint, sae):
        whole = losses["all"]
        scores = {"fvu": whole.error / max(whole.spread, 1e-12), "flip": float(whole.flip)}
        parts = {kind: loss.document() for kind, loss in losses.items()}
        outcomes.append(Outcome.ok(scores, losses=parts))
    return outcomes


def _tools(context: Context[Subject]) -> tuple[Asker, Fidelity]:
    """The questions as one batch, and the means of the stream under them: made once a run."""
    from .features.fidelity import Fidelity, kind_means
    from .hallucination.asking import Asker

    subject, asked = context.subject, _questions(context)
    hookpoints = list(dict.fromkeys(sae.hookpoint for sae in subject.saes))
    key = {"asked": [q.id for q in asked], "at": [h.name for h in hookpoints]}

    def build() -> tuple[Asker, Fidelity]:
        asker = Asker(subject.lmm, subject.dev_questions)
        means = kind_means(subject.lmm, [asker.batch(asked)], hookpoints)
        return asker, Fidelity(subject.lmm, means)

    return context.artefacts.get("core", key, build)


def _rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    for cell in cells(lines):
        for suffix in _KINDS:
            for arm in ARMS:
                if members := cell.arm(arm):
                    yield from _cell_rows(cell, arm, members, suffix)


_PARTS = (
    "error",
    "spread",
    "tokens",
    "active",
    "ce",
    "ce_clean",
    "ce_zero",
    "margin",
    "margin_zero",
    "flip",
)


def _cell_rows(cell: Cell, arm: str, members: Sequence[Line], suffix: str) -> Iterator[MetricRow]:
    """Ratios of sums over questions, image families resampled."""
    kind = suffix.removeprefix("_") or "all"
    ok = scored(members, "fvu")

    def parts(line: Line) -> list[tuple[int, float]]:
        losses = line["detail"]["losses"][kind]
        return [*((i, float(losses[name])) for i, name in enumerate(_PARTS)), (len(_PARTS), 1.0)]

    totals = cluster_totals(ok, len(_PARTS) + 1, parts)
    for name, statistic in _STATISTICS.items():
        interval = pooled_interval(totals, statistic, len(ok))
        scale = _SCALES.get(name)
        poor = scale is not None and _may_be_zero(pooled_interval(totals, scale, len(ok)))
        note = NO_SCALE if poor and not interval.insufficient else None
        yield row(f"{name}{suffix}", interval, cell, arm, len(ok), len(members), note=note)


def _may_be_zero(scale: Interval) -> bool:
    """Whether chance can't tell it from nothing; without an interval its value has to do."""
    if scale.low is None or scale.high is None:
        return not scale.value
    return scale.low <= 0 <= scale.high


def _over(a: Table, b: Table) -> Table:
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0))


_STATISTICS = {
    "fvu": lambda s: _over(s[:, 0], s[:, 1]),
    "l0": lambda s: _over(s[:, 3], s[:, 2]),
    "ce_recovered": lambda s: _over(s[:, 6] - s[:, 4], s[:, 6] - s[:, 5]),
    "logit_recovered": lambda s: 1 - _over(s[:, 7], s[:, 8]),
    "flip": lambda s: _over(s[:, 9], s[:, 10]),
}


_SCALES = {
    "ce_recovered": lambda s: _over(s[:, 6] - s[:, 5], s[:, 10]),
    "logit_recovered": lambda s: _over(s[:, 8], s[:, 10]),
}
"""What a recovered share is a share of: the harm of zero ablation."""


def _census_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    for line in lines:
        for name, value in line["scores"].items():
            yield MetricRow(
                name, value, 1, 1, sae=line["sae"], hookpoint=line["hookpoint"], arm=line["arm"]
            )
