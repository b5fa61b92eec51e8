"""Hallucination correction: what steering SAE features mends and breaks, and what a control would.

Features and strengths are found on dev families (`hallucination/selection.py`); every arm is then
asked the same test questions. Metrics come from the stored lines alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ..harness.registry import register_task
from ..harness.task import (
    Card,
    Context,
    Line,
    MetricRow,
    Outcome,
    Plot,
    Sample,
    Task,
    TaskSpec,
)
from .hallucination.arms import UNTOUCHED
from .hallucination.bench import Bench
from .hallucination.metrics import METRICS
from .hallucination.neutral import NEUTRAL, neutral_questions
from .hallucination.questions import NO_FIGURE
from .hallucination.running import arms_alone, arms_at_sae, prefixed, replies, same_arm
from .hallucination.scoring import question_detail
from .hallucination.table import SELECTION, all_rows
from .hallucination.why import WHY, siblings
from .needs import QUESTIONS
from .subject import Subject

if TYPE_CHECKING:
    from ..sae.topk import TrainedSae
    from .hallucination.asking import Reply
    from .hallucination.questions import Question
    from .hallucination.why import Patch, Split


@dataclass(frozen=True, slots=True)
class _Ask:
    """The payload of a sample."""

    arm: str
    trained: TrainedSae | None
    question: Question | None
    fold: int = 0


@register_task
class Halluc(Task[Subject]):
    """Yes/no questions under untouched, reconstructed, steered and control arms."""

    batch_size: ClassVar[int] = 64
    needs: ClassVar[tuple[str, ...]] = (QUESTIONS,)
    spec: ClassVar[TaskSpec] = TaskSpec(
        name="halluc",
        version=1,
        title="Hallucination correction",
        description="Steering SAE features chosen by attribution on dev families: answers "
        "corrected and broken on test families, against matched random latents and a logit offset.",
        metrics=METRICS,
        cluster="image family",
        unscorable="neither yes nor no: left out of rates, wrong in aAcc, fAcc and qAcc",
    )

    def samples(self, context: Context[Subject]) -> Iterator[Sample]:
        """Question by question in batches, all arms of one batch after the other."""
        bench = Bench.of(context)
        saes = prefixed(context.subject.main_saes)
        for chunk in _aligned(bench.test, self.batch_size):
            for arm in arms_alone(bench.options):
                yield from _samples_of(chunk, arm, arm, None)
            for prefix, sae in saes:
                for arm in arms_at_sae(bench.options):
                    yield from _samples_of(chunk, f"{prefix}/{arm}", arm, sae)
        for prefix, sae in saes:
            yield from _aside_samples(bench, prefix, sae, self.batch_size)
            for fold in range(len(bench.dev)):
                name = f"{prefix}/{SELECTION}" + (f"/{fold}" if fold else "")
                yield _sample(name, _Ask(SELECTION, sae, None, fold), SELECTION)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> list[Outcome]:
        bench = Bench.of(context)
        outcomes: dict[str, Outcome] = {}
        for group in same_arm(samples):
            for part in bench.asker.memory.over(group, partial(_group_outcomes, bench)):
                outcomes |= part
        return [outcomes[sample.id] for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> list[MetricRow]:
        return all_rows(lines)

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        from .hallucination.firing import features_of
        from .hallucination.pictures import family_cards

        bench = Bench.of(context)
        questions = {q.id: q for q in bench.test}
        return family_cards(lines, questions, bench.image_for, features_of(context, bench))

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        from .hallucination.pictures import arm_plots

        return arm_plots(rows)


def _aligned(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    """Full batches, then ever smaller powers of two.

    The runner cuts the samples every `size`, and these never get cut: an arm asks a batch as a
    whole, so that all arms share its prepared inputs.
    """
    start = 0
    while start < len(questions):
        while size > len(questions) - start:
            size //= 2
        yield questions[start : start + size]
        start += size


def _samples_of(
    questions: Sequence[Question], prefix: str, arm: str, sae: TrainedSae | None
) -> Iterator[Sample]:
    for question in questions:
        yield _sample(f"{prefix}/{question.id}", _Ask(arm, sae, question), question.family)


def _sample(name: str, ask: _Ask, cluster: str) -> Sample:
    return Sample(
        id=name,
        cluster=cluster,
        arm=ask.arm,
        sae=ask.trained.name if ask.trained else None,
        hookpoint=ask.trained.hookpoint.name if ask.trained else None,
        payload=ask,
    )


def _aside_samples(bench: Bench, prefix: str, sae: TrainedSae, size: int) -> Iterator[Sample]:
    """What is no answer under an arm: descriptions, and why the untouched model was wrong."""
    if bench.options.all_controls:
        chosen = neutral_questions(bench.test)
        yield from _samples_of(chosen, f"{prefix}/{NEUTRAL}", NEUTRAL, sae)
        seen = [q for q in bench.test if q.record["visual_input"] != NO_FIGURE]
        for chunk in _aligned(seen, size):
            yield from _samples_of(chunk, f"{prefix}/{WHY}", WHY, sae)


def _group_outcomes(bench: Bench, group: Sequence[Sample]) -> dict[str, Outcome]:
    ask: _Ask = group[0].payload
    if ask.arm == SELECTION:
        return {sample.id: _selection_outcome(bench, sample.payload) for sample in group}
    questions = [sample.payload.question for sample in group]
    if ask.arm in _ASIDE:
        found = _ASIDE[ask.arm](bench, ask, questions)
        return {sample.id: outcome for sample, outcome in zip(group, found, strict=True)}
    before = bench.asker.untouched(questions)
    after = replies(bench, ask.arm, ask.trained, questions)
    return {
        sample.id: _outcome(sample.payload, was, now)
        for sample, was, now in zip(group, before, after, strict=True)
    }


def _neutral_outcomes(bench: Bench, ask: _Ask, questions: Sequence[Question]) -> list[Outcome]:
    assert ask.trained is not None
    compared = bench.neutral.compare(ask.trained, bench.asked(ask.trained, questions))
    return [
        Outcome.ok(
            {"kl": found.kl, "degenerate": float(found.degenerate)},
            item=question.id,
            was_degenerate=found.was_degenerate,
            words=found.words,
            was_words=found.was_words,
            text=found.text,
        )
        for question, found in zip(questions, compared, strict=True)
    ]


def _outcome(ask: _Ask, before: Reply, after: Reply) -> Outcome:
    assert ask.question is not None
    detail = question_detail(ask.question)
    if after.answer is None:
        reason = "the answer is neither yes nor no"
        return Outcome.unscorable(reason, **detail, m=after.margin, answer=None, text=after.text)
    right = (after.answer == "yes") == ask.question.gt
    scores = {"m": after.margin, "accuracy": float(right)}
    if ask.arm != UNTOUCHED and before.answer is not None:
        was_right = (before.answer == "yes") == ask.question.gt
        scores["net"] = float(right) - was_right
        scores["regression" if was_right else "correction"] = float(right != was_right)
    return Outcome.ok(scores, **detail, answer=after.answer)


def _why_outcomes(bench: Bench, ask: _Ask, questions: Sequence[Question]) -> list[Outcome]:
    assert ask.trained is not None
    splits = bench.why.splits(ask.trained, questions)
    partners = siblings(bench.test)
    paired = [q for q in questions if q.id in partners]
    patches = bench.why.patches(ask.trained, paired, [partners[q.id] for q in paired])
    patched = {q.id: patch for q, patch in zip(paired, patches, strict=True)}
    return [
        _why_outcome(q, split, patched.get(q.id))
        for q, split in zip(questions, splits, strict=True)
    ]


def _why_outcome(question: Question, split: Split, patch: Patch | None) -> Outcome:
    if split.image is None or split.question is None or split.template is None:
        return Outcome.unscorable("no latent has any attribution", item=question.id)
    scores = {
        "reliance": split.image,
        "share_question": split.question,
        "share_template": split.template,
        "share_error": split.error,
    }
    if patch is not None:
        scores |= {"patch_shift": patch.shift, "patch_flip": float(patch.flipped)}
    return Outcome.ok(scores, item=question.id)


_ASIDE: Mapping[str, Callable[[Bench, _Ask, Sequence[Question]], list[Outcome]]] = {
    NEUTRAL: _neutral_outcomes,
    WHY: _why_outcomes,
}


def _selection_outcome(bench: Bench, ask: _Ask) -> Outcome:
    assert ask.trained is not None
    found = bench.selection(ask.trained, ask.fold)
    dev = {"dev_correction": found.dev.correction, "dev_regression": found.dev.regression}
    scores = {"n_tried": found.n_tried, "n_screened": found.n_screened, "dev_net": found.dev.net}
    return Outcome.ok(
        scores | {name: value for name, value in dev.items() if value is not None},
        edits={t: _edit_document(e) for t, e in found.plan.by_topic.items() if e},
        everywhere=_edit_document(found.plan.everywhere),
        dev_everywhere_net=found.dev_everywhere.net,
        n_dev_wrong=found.dev.n_wrong,
        n_dev_right=found.dev.n_right,
        n_live=len(found.plan.live),
    )


def _edit_document(edit: Any) -> dict[str, Any]:
    return {"latents": list(edit.latents), "scale": edit.scale}
