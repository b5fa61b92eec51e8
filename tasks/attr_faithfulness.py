"""Is attribution causal? What is predicted of latents against what taking them away does.

For every question, latents are taken away one by one and share by share, in the order of their
attribution and in orders that know less. Nothing fires in place of what is taken away, and the
SAE's error stays, unless a metric says otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..harness.registry import register_task
from ..harness.task import (
    Card,
    Context,
    Line,
    Metric,
    MetricRow,
    Outcome,
    Plot,
    Sample,
    Task,
    TaskSpec,
)
from .attribution.measuring import ARMS, INTEGRATED, MAIN, RANDOM, TESTED, Measuring, Scores
from .attribution.options import Options
from .attribution.scores import LEAST_EFFECT
from .features.tables import mean_rows
from .hallucination.asking import Asker
from .hallucination.memory import Memory
from .hallucination.questions import Question, read_questions
from .needs import QUESTIONS
from .subject import Subject

if TYPE_CHECKING:
    from ..sae.attribution import Attribution
    from ..sae.topk import TrainedSae

CHUNK = 16
"""Questions that go through the model together."""


_CORRELATION = (-1.0, 1.0)
_SHARE = (0.0, 1.0)
METRICS = (
    Metric(
        "pearson",
        "Correlation with ablation",
        "Pearson correlation of a latent's attribution and the exact effect of ablating it, over "
        "the latents of most attribution and random others; mean over questions.",
        True,
        range=_CORRELATION,
        headline=True,
    ),
    Metric("spearman", "Rank correlation", "The same by ranks.", True, range=_CORRELATION),
    Metric(
        "sign",
        "Signs right",
        "Sizeable single effects whose sign was predicted.",
        True,
        range=_SHARE,
    ),
    Metric(
        "worst",
        "Worst error",
        "Largest error of a single effect, as part of the largest effect.",
        False,
    ),
    Metric(
        "insertion",
        "Insertion",
        "Area under the share of the latents' effect that is there when only the first latents of "
        "an order are kept. A random order has .5 where effects add up.",
        True,
        headline=True,
    ),
    Metric(
        "deletion",
        "Deletion",
        "Area under the share of the effect that is left when the first latents of an order are "
        "taken away.",
        False,
        headline=True,
    ),
    Metric("faithfulness", "Faithfulness at 10 %", "F of the first tenth of latents.", True),
    Metric("completeness", "Completeness at 10 %", "F of all but the first tenth.", False),
    Metric(
        "completeness_error",
        "Completeness error",
        "|sum of attributions - effect of all latents| as part of that effect.",
        False,
    ),
    Metric(
        "faithfulness_no_error",
        "Faithfulness without error",
        "The reconstruction's own effect, without the SAE's error, as part of the effect.",
        None,
    ),
    Metric(
        "error_share",
        "Error share",
        "|A of the SAE's error| / (|A of the error| + sum of |A| of latents).",
        False,
        range=_SHARE,
        headline=True,
    ),
    Metric(
        "image_share",
        "Image share",
        "Part of |A| that lies on image tokens.",
        None,
        range=_SHARE,
    ),
)
_ONCE = ("faithfulness_no_error", "error_share", "image_share")
"""Said of a question, not of an order."""
_SINGLE = ("pearson", "spearman", "sign", "worst", "completeness_error")


@dataclass(frozen=True, slots=True)
class _Ask:
    """The payload of a sample."""

    arm: str
    trained: TrainedSae
    question: Question
    other: Question


@register_task
class AttrFaithfulness(Task[Subject]):
    """Attribution against exact ablation, and against orders that know less."""

    batch_size: ClassVar[int] = CHUNK * len(ARMS)
    needs: ClassVar[tuple[str, ...]] = (QUESTIONS,)
    spec: ClassVar[TaskSpec] = TaskSpec(
        name="attr_faithfulness",
        version=1,
        title="Attribution, faithful?",
        description="Attribution of yes/no answers to latents, against exact ablation; orders by "
        "gradient, magnitude, another question's attribution and chance are the controls.",
        metrics=METRICS,
        cluster="image family",
        unscorable=f"all latents together move the answer by less than {LEAST_EFFECT} logits: left "
        "out of the mean; shown as coverage",
    )

    def samples(self, context: Context[Subject]) -> Iterator[Sample]:
        """Chunk by chunk of questions, all arms of one chunk after the other."""
        options = Options.read(context.params)
        asked = read_questions(context.subject.test_questions.records)
        questions = one_per_family(asked, options.n_questions, context.seed)
        arms = [arm for arm in ARMS if arm != INTEGRATED or options.steps]
        pairs = list(zip(questions, [*questions[1:], *questions[:1]], strict=True))
        for trained in context.subject.main_saes:
            for start in range(0, len(pairs), CHUNK):
                for arm in arms:
                    for question, other in pairs[start : start + CHUNK]:
                        yield _sample(_Ask(arm, trained, question, other))

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> list[Outcome]:
        asker = _asker(context)
        outcomes: dict[str, Outcome] = {}
        for group in _groups(samples):
            for part in asker.memory.over(group, lambda some: _measured(some, asker, context)):
                outcomes |= part
        return [outcomes[sample.id] for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> list[MetricRow]:
        rows: list[MetricRow] = []
        for metric in METRICS:
            arms: Sequence[str] = ARMS
            if metric.name in _SINGLE:
                arms = TESTED
            if metric.name in _ONCE:
                arms = (MAIN,)
            of_arms = [line for line in lines if line["arm"] in arms]
            null = RANDOM if RANDOM in arms else None
            rows += mean_rows(of_arms, metric.name, arms, null, share=metric.range == _SHARE)
        return rows

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        from .attribution.pictures import question_cards

        questions = context.subject.test_questions
        return question_cards(lines, questions.image_for, read_questions(questions.records))

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        from .attribution.pictures import curve_plots

        return curve_plots(lines, rows)


def one_per_family(questions: Sequence[Question], n: int, seed: int) -> list[Question]:
    """`n` questions of as many image families, or one of each: questions of a family are alike."""

    def rank(name: str) -> str:
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    families: dict[str, list[Question]] = {}
    for question in questions:
        families.setdefault(question.family, []).append(question)
    chosen = sorted(families, key=rank)[:n]
    return [min(families[family], key=lambda q: rank(q.id)) for family in chosen]


def _asker(context: Context[Subject]) -> Asker:
    """The same one for the whole run: how many questions fit is learnt once."""
    lmm, questions = context.subject.lmm, context.subject.test_questions
    key = {"model": lmm.identity, "questions": questions.revision}
    memory = Memory(context.progress)
    return context.artefacts.get(
        "attribution-asker", key, lambda: Asker(lmm, questions, memory=memory)
    )


def _sample(ask: _Ask) -> Sample:
    where = ask.trained.hookpoint.name
    return Sample(
        id=f"{ask.trained.name}/{where}/{ask.arm}/{ask.question.id}",
        cluster=ask.question.family,
        arm=ask.arm,
        sae=ask.trained.name,
        hookpoint=where,
        payload=ask,
    )


def _groups(samples: Sequence[Sample]) -> list[list[list[Sample]]]:
    """By SAE, and within it by question."""
    groups: dict[tuple[str | None, str | None], dict[str, list[Sample]]] = {}
    for sample in samples:
        of_sae = groups.setdefault((sample.sae, sample.hookpoint), {})
        of_sae.setdefault(sample.payload.question.id, []).append(sample)
    return [list(of_sae.values()) for of_sae in groups.values()]


def _measured(
    by_question: Sequence[Sequence[Sample]], asker: Asker, context: Context[Subject]
) -> dict[str, Outcome]:
    from .attribution.clean import Clean

    group = [sample for samples in by_question for sample in samples]
    asks: list[_Ask] = [sample.payload for sample in group]
    others = {ask.question.id: ask.other for ask in asks}
    questions = list({ask.question.id: ask.question for ask in asks}.values())
    trained = asks[0].trained

    def attribution_of_others() -> Attribution:
        from ..sae.attribution import attribute

        batch = asker.batch([others[question.id] for question in questions])
        return attribute(asker.lmm, batch, trained.hookpoint, trained.sae)

    measuring = Measuring(
        Clean.of(asker.lmm, asker.batch(questions), trained),
        [question.id for question in questions],
        attribution_of_others,
        Options.read(context.params),
        context.seed,
    )
    found = measuring.run({ask.arm for ask in asks})
    rows = {question.id: row for row, question in enumerate(questions)}
    outcomes = {}
    for sample, ask in zip(group, asks, strict=True):
        row = rows[ask.question.id]
        margins = float(measuring.full[row]), float(measuring.none[row])
        outcomes[sample.id] = _outcome(ask.question, found[ask.arm][row], *margins)
    return outcomes


def _outcome(question: Question, found: Scores, full: float, none: float) -> Outcome:
    detail = {"question": question.id, "m": round(full, 5), "m_without": round(none, 5)}
    if abs(full - none) < LEAST_EFFECT:
        reason = f"all latents together move the answer by less than {LEAST_EFFECT} logits"
        return Outcome.unscorable(reason, **detail)
    return Outcome.ok(found.scores, **detail, **found.detail)
