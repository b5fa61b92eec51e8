"""Objects that captions make up, with and without an SAE or steering: CHAIR, recall and length.

The features and strengths are those that `halluc` chooses on dev families: this asks whether what
mends yes/no answers mends what the model says when nothing is suggested to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..errors import UsageError
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
from .captions.captioning import Captioner, one_per_figure
from .captions.chair import read_caption
from .captions.mentions import Vocabulary
from .captions.options import Options
from .captions.rows import all_rows
from .captions.truth import Truth, objects_place, read_truth
from .hallucination.arms import UNTOUCHED, standard_arms
from .hallucination.bench import Bench
from .hallucination.questions import Question, read_questions
from .hallucination.running import prefixed, same_arm
from .needs import QUESTIONS
from .subject import Subject

if TYPE_CHECKING:
    from ..sae.sae import TrainedSae

_SHARE = (0.0, 1.0)
_CHANGE = (-1.0, 1.0)
_PAIRED = "Minus the untouched model's, over the same figures."
METRICS = (
    Metric(
        "chair_i",
        "CHAIR_i",
        "Mentions of objects that aren't there, among all mentions of objects.",
        False,
        range=_SHARE,
        headline=True,
    ),
    Metric(
        "chair_s",
        "CHAIR_s",
        "Captions that name any object that isn't there.",
        False,
        range=_SHARE,
        headline=True,
    ),
    Metric(
        "object_recall",
        "Recall",
        "Objects that are there and named, among those there: saying less lowers CHAIR and this.",
        True,
        range=_SHARE,
        headline=True,
    ),
    Metric("mentions", "Mentions", "Mentions of objects a caption.", None, range=(0.0, None)),
    Metric("words", "Words", "Words a caption.", None, range=(0.0, None)),
    Metric("chair_i_change", "Change of CHAIR_i", _PAIRED, False, range=_CHANGE, headline=True),
    Metric("chair_s_change", "Change of CHAIR_s", _PAIRED, False, range=_CHANGE),
    Metric("object_recall_change", "Change of recall", _PAIRED, True, range=_CHANGE, headline=True),
    Metric("words_change", "Change of words", _PAIRED, None),
)


@dataclass(frozen=True, slots=True)
class _Ask:
    """The payload of a sample."""

    arm: str
    trained: TrainedSae | None
    figure: Question


@register_task
class Chair(Task[Subject]):
    """Captions of test figures under untouched, reconstructed, steered and random arms."""

    batch_size: ClassVar[int] = 32
    needs: ClassVar[tuple[str, ...]] = (QUESTIONS,)
    spec: ClassVar[TaskSpec] = TaskSpec(
        name="chair",
        version=1,
        title="Objects made up in captions",
        description="CHAIR of generated captions, with recall and length beside it, under the "
        "edits that halluc chooses on dev families.",
        metrics=METRICS,
        cluster="image family",
        unscorable="an empty caption: left out; shown as coverage",
    )

    def samples(self, context: Context[Subject]) -> Iterator[Sample]:
        """Batch by batch of figures, all arms of one batch after the other."""
        options, truth = Options.read(context.params), truth_of(context)
        asked = read_questions(context.subject.test_questions.records)
        known = [q for q in asked if truth.of_image(str(q.record["filename"])) is not None]
        figures = one_per_figure(known, options.n_captions)
        if not figures:
            raise UsageError(
                "nothing says which objects are in any of the test figures; give --objects that "
                "name them as the questions do"
            )
        saes = prefixed(context.subject.main_saes)
        for start in range(0, len(figures), self.batch_size):
            batch = figures[start : start + self.batch_size]
            yield from _samples_of(batch, UNTOUCHED, UNTOUCHED, None)
            for prefix, trained in saes:
                for arm in standard_arms(options.random):
                    yield from _samples_of(batch, f"{prefix}/{arm}", arm, trained)

    def evaluate(self, samples: Sequence[Sample], context: Context[Subject]) -> list[Outcome]:
        truth, outcomes = truth_of(context), dict[str, Outcome]()
        for group in same_arm(samples):
            captions = _captions(group, context)
            for sample, caption in zip(group, captions, strict=True):
                outcomes[sample.id] = _outcome(sample.payload.figure, caption, truth)
        return [outcomes[sample.id] for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> list[MetricRow]:
        return all_rows(lines)

    def cards(self, lines: Sequence[Line], context: Context[Subject]) -> Iterable[Card]:
        from .captions.pictures import caption_cards

        questions = context.subject.test_questions
        about = {q.figure: q for q in read_questions(questions.records)}
        return caption_cards(lines, about, questions.image_for)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        from .captions.pictures import caption_plots

        return caption_plots(rows)


def truth_of(context: Context[Subject]) -> Truth:
    """What is in the test figures. Raises `UsageError` where nothing says so."""
    objects = Options.read(context.params).objects
    key = {"objects": dict(objects) if objects else context.subject.provider.revision}
    return context.artefacts.get("chair-truth", key, lambda: _truth(context.subject, objects))


def _truth(subject: Subject, objects: Mapping[str, str] | None) -> Truth:
    if objects is not None:
        return read_truth(objects_place(objects["ref"]))
    if subject.own_questions is not None:
        raise UsageError(
            "nothing says which objects are in the figures of these questions; give --objects"
        )
    things = subject.provider.things()
    names = sorted({name for there in things.values() for name in there})
    return Truth.of(Vocabulary.of(names), things)


def _samples_of(
    figures: Sequence[Question], prefix: str, arm: str, trained: TrainedSae | None
) -> Iterator[Sample]:
    for figure in figures:
        yield Sample(
            id=f"{prefix}/{figure.figure}",
            cluster=figure.family,
            arm=arm,
            sae=trained.name if trained else None,
            hookpoint=trained.hookpoint.name if trained else None,
            payload=_Ask(arm, trained, figure),
        )


def _captioner(context: Context[Subject]) -> Captioner:
    subject, options = context.subject, Options.read(context.params)
    key = {
        "model": subject.lmm.identity,
        "test": subject.test_questions.revision,
        "prompt": [options.prompt, options.max_new_tokens],
    }
    return context.artefacts.get(
        "chair-captioner", key, lambda: Captioner(subject.lmm, subject.test_questions, options)
    )


def _captions(group: Sequence[Sample], context: Context[Subject]) -> list[str]:
    ask: _Ask = group[0].payload
    captioner, figures = _captioner(context), [sample.payload.figure for sample in group]
    if ask.trained is None:
        return captioner.untouched(figures)
    features = Options.read(context.params).features
    bench = Bench.of(replace(context, params=features))
    return captioner.under(ask.arm, ask.trained, bench.asked(ask.trained, figures), context.seed)


def _outcome(figure: Question, caption: str, truth: Truth) -> Outcome:
    there = sorted(truth.of_image(str(figure.record["filename"])) or ())
    detail = {"figure": figure.figure, "text": caption, "objects": there}
    if not caption.strip():
        return Outcome.unscorable("the caption is empty", **detail)
    read = read_caption(caption, there, truth.vocabulary)
    scores = {
        "chair_s": read.counts.hallucinates,
        "mentions": float(read.counts.mentions),
        "words": float(read.counts.words),
    }
    named, wrong = list(read.named), list(read.wrong)
    return Outcome.ok(scores, **detail, named=named, wrong=wrong, recalled=read.counts.recalled)
