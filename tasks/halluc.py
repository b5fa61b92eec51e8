"""Hallucination correction: what steering SAE features mends and breaks, and what a control would.

Features and strengths are found on dev families (`hallucination/selection.py`); every arm is then
asked the same test questions. Metrics come from the stored lines alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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
from .hallucination.arms import RANDOM, STEERED, UNTOUCHED, arm_names, run_arm
from .hallucination.bench import Bench
from .hallucination.rows import (
    OFFSET_MATCHED,
    Cell,
    change_rows,
    contrast_rows,
    effect_row,
    oracle_rows,
    prior_row,
    random_rows,
    selection_rows,
    state_rows,
    with_nulls,
)
from .hallucination.scoring import by_item, question_detail, yes_matched_offset
from .subject import Subject

if TYPE_CHECKING:
    from ..sae.topk import TrainedSae
    from .hallucination.asking import Reply
    from .hallucination.questions import Question
    from .hallucination.scoring import Answered

SELECTION = "selection"
"""The arm of the one line per SAE that holds what was chosen."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """The payload of a sample."""

    arm: str
    trained: TrainedSae | None
    question: Question | None


def _share(name: str, title: str, text: str, up: bool | None, **more: Any) -> Metric:
    return Metric(name, title, text, up, range=more.pop("range", (0.0, 1.0)), **more)


_BOTH = (-1.0, 1.0)
METRICS = (
    _share("correction", "Corrected", "Wrong answers that become right.", True, headline=True),
    _share("regression", "Broken", "Right answers that become wrong.", False, headline=True),
    _share(
        "net",
        "Net",
        "Change of accuracy: (1 - acc) x corrected - acc x broken.",
        True,
        range=_BOTH,
        headline=True,
    ),
    _share("mcnemar_p", "McNemar p", "Exact p of fixed against broken; families ignored.", None),
    _share(
        "net_over_random",
        "Net over random",
        "Net minus the mean net of other live latents moved equally far.",
        True,
        range=_BOTH,
        headline=True,
    ),
    _share(
        "net_over_random_p",
        "p over random",
        "(1 + random draws at least as good) / (1 + random draws).",
        None,
    ),
    _share(
        "net_over_offset",
        "Net over offset",
        "Net minus that of a constant logit offset with the same yes rate.",
        True,
        range=_BOTH,
        headline=True,
    ),
    _share(
        "effect",
        "Effect of the latents",
        "Steered minus reconstruction alone: replace mode without the SAE's own damage.",
        True,
        range=_BOTH,
    ),
    _share("accuracy", "Accuracy", "Right answers among yes/no answers.", True),
    _share(
        "pda",
        "Paired discrimination",
        "Pairs of one question with true yes and true no whose margins are in order. Chance .5; "
        "a constant offset can't change it.",
        True,
    ),
    _share("auroc", "AUROC", "Of the yes/no margin on prior items, both directions pooled.", True),
    _share("yes_rate", "Yes rate", "Share of yes among yes/no answers.", None),
    _share("aacc", "aAcc", "HallusionBench accuracy by question.", True),
    _share("facc", "fAcc", "HallusionBench accuracy by figure.", True),
    _share("qacc", "qAcc", "HallusionBench accuracy by question pair.", True),
    _share("precision", "Precision", "Of the positive class: yes in POPE, no in AMBER.", True),
    _share("recall", "Recall", "Of the positive class: yes in POPE, no in AMBER.", True),
    _share("f1", "F1", "Of the positive class. Always yes on POPE scores .667.", True),
    _share("wrong_yes", "Wrong yes", "Share answered yes where the truth is no, by kind.", False),
    _share("wrong_no", "Wrong no", "Share answered no where the truth is yes, by kind.", False),
    Metric("n_tried", "Edits tried", "(latents, strength) that were run on dev questions.", None),
    Metric("n_screened", "Edits screened", "Those judged by attribution alone.", None),
    _share(
        "optimism_correction",
        "Optimism, corrected",
        "Corrected on dev minus corrected on test.",
        None,
        range=_BOTH,
    ),
    _share(
        "optimism_regression",
        "Optimism, broken",
        "Broken on dev minus broken on test.",
        None,
        range=_BOTH,
    ),
)


@register_task
class Halluc(Task[Subject]):
    """Yes/no questions under untouched, reconstructed, steered and control arms."""

    batch_size: ClassVar[int] = 64
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
        saes = _prefixed(context.subject.main_saes)
        for chunk in _aligned(bench.test, self.batch_size):
            yield from _samples_of(chunk, UNTOUCHED, UNTOUCHED, None)
            for prefix, sae in saes:
                for arm in arm_names(bench.options.random):
                    yield from _samples_of(chunk, f"{prefix}/{arm}", arm, sae)
        for prefix, sae in saes:
            yield _sample(f"{prefix}/{SELECTION}", _Ask(SELECTION, sae, None), SELECTION)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> list[Outcome]:
        bench = Bench.of(context)
        outcomes: dict[str, Outcome] = {}
        for group in _groups(samples):
            ask: _Ask = group[0].payload
            if ask.question is None:
                assert ask.trained is not None
                outcomes[group[0].id] = _selection_outcome(bench, ask.trained)
                continue
            questions = [sample.payload.question for sample in group]
            before = bench.asker.untouched(questions)
            after = _replies(bench, ask, questions, context.seed)
            for sample, was, now in zip(group, before, after, strict=True):
                outcomes[sample.id] = _outcome(sample.payload, was, now)
        return [outcomes[sample.id] for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> list[MetricRow]:
        base = by_item(line for line in lines if line["arm"] == UNTOUCHED)
        rows = [*state_rows(Cell(UNTOUCHED), base), *oracle_rows(base)]
        for sae, hookpoint in _cells(lines):
            here = [x for x in lines if (x["sae"], x["hookpoint"]) == (sae, hookpoint)]
            rows += with_nulls(list(_sae_rows(Cell(STEERED, sae, hookpoint), here, base)))
        return rows

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        from .hallucination.pictures import family_cards

        questions = context.subject.test_questions
        return family_cards(lines, {q.id: q for q in Bench.of(context).test}, questions.image_for)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        from .hallucination.pictures import arm_plots

        return arm_plots(rows)


def _prefixed(saes: Sequence[TrainedSae]) -> list[tuple[str, TrainedSae]]:
    """Ids name the hookpoint and not the SAE, so that other SAEs there answer the same items."""
    seen: dict[str, int] = {}
    prefixed = []
    for sae in saes:
        name = sae.hookpoint.name
        number = seen[name] = seen.get(name, 0) + 1
        prefixed.append((name if number == 1 else f"{name}#{number}", sae))
    return prefixed


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


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples that go through the model together: one arm of one SAE."""
    groups: dict[tuple[str, str | None, str | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.arm, sample.sae, sample.hookpoint), []).append(sample)
    return list(groups.values())


def _replies(bench: Bench, ask: _Ask, questions: Sequence[Question], seed: int) -> list[Reply]:
    if ask.trained is None:
        return bench.asker.untouched(questions)
    plan = bench.selection(ask.trained).plan
    return run_arm(ask.arm, bench.asker, ask.trained, plan, questions, seed)


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


def _selection_outcome(bench: Bench, trained: TrainedSae) -> Outcome:
    found = bench.selection(trained)
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


def _cells(lines: Sequence[Line]) -> list[tuple[str | None, str | None]]:
    """SAEs with their hookpoints, in order."""
    cells = {(line["sae"], line["hookpoint"]): None for line in lines if line["sae"] is not None}
    return list(cells)


def _sae_rows(
    cell: Cell, lines: Sequence[Line], base: Mapping[str, Answered]
) -> Iterator[MetricRow]:
    by_arm: dict[str, list[Line]] = {}
    for line in lines:
        by_arm.setdefault(line["arm"], []).append(line)
    selection = by_arm.pop(SELECTION, [])
    arms = {arm: by_item(of_arm) for arm, of_arm in by_arm.items()}
    draws = {arm: arms.pop(arm) for arm in list(arms) if arm.startswith(f"{RANDOM}_")}
    steered = arms.get(STEERED, {})
    arms[OFFSET_MATCHED] = yes_matched_offset(base, steered)
    for arm, answers in arms.items():
        of_arm_cell = Cell(arm, cell.sae, cell.hookpoint)
        yield from change_rows(of_arm_cell, base, answers)
        yield prior_row(of_arm_cell, base, answers)
        yield from state_rows(of_arm_cell, answers)
    yield from random_rows(cell, base, draws)
    yield from contrast_rows(cell, base, steered, draws, arms[OFFSET_MATCHED])
    yield from effect_row(cell, arms)
    for line in selection:
        if line["status"] == "ok":
            yield from selection_rows(cell, line, base, steered)
