"""What one run of `halluc` works with: its questions, askers and selections, each made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from .arms import Asked
from .asking import Asker
from .decoding import Baselines
from .dense import DenseDirections, dense_directions
from .dev import working_items
from .memory import Memory
from .neutral import Neutral
from .options import Options
from .questions import (
    Question,
    QuestionSet,
    Record,
    crossing_families,
    fold_families,
    read_questions,
    take_families,
)
from .selection import Selection, select
from .why import Why

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.artefacts import ArtefactStore
    from ...harness.progress import Progress
    from ...harness.task import Context
    from ...sae.lmm import LMM
    from ...sae.sae import TrainedSae
    from ..subject import Subject

_SELECTION_VERSION = 2
"""Bumped whenever the same dev questions could lead to another choice."""


@dataclass
class Bench:
    """Test questions and their asker; dev questions are only touched by `selection`.

    With cross-fitting every question is a test question of its fold, and a dev question of the
    others.
    """

    options: Options
    seed: int
    test: list[Question]
    asker: Asker
    dev: list[list[Question]]
    """By fold; one list without cross-fitting."""
    _folds: Mapping[str, int]
    """By family; empty without cross-fitting."""
    _dev_asker: Asker
    _questions: QuestionSet
    _lmm: LMM
    _key: Mapping[str, Any]
    _store: ArtefactStore
    _progress: Progress

    @classmethod
    def of(cls, context: Context[Subject]) -> Bench:
        """The bench of a run; the same one each time."""
        subject = context.subject
        options = Options.read(context.params)
        key = {
            "version": _SELECTION_VERSION,
            "model": subject.lmm.identity,
            "dev": subject.dev_questions.revision,
            "test": subject.test_questions.revision,
            "options": options.document(),
            "seed": context.seed,
        }
        return context.artefacts.get("halluc-bench", key, lambda: cls._open(context, options, key))

    @classmethod
    def _open(cls, context: Context[Subject], options: Options, key: Mapping[str, Any]) -> Bench:
        subject = context.subject
        if options.folds > 1:
            asked, dev_asked = subject.all_questions, subject.all_questions
            test = read_questions(asked.records)
            folds = fold_families(test, options.folds)
            dev = [[q for q in test if folds[q.family] != n] for n in range(options.folds)]
        else:
            asked, dev_asked = subject.test_questions, subject.dev_questions
            test, folds = read_questions(asked.records), {}
            dev = [_checked(read_questions(dev_asked.records), test)]
        memory = Memory(context.progress)
        return cls(
            options=options,
            seed=context.seed,
            test=take_families(test, options.n_test, context.seed),
            asker=Asker(subject.lmm, asked, memory=memory),
            dev=dev,
            _folds=folds,
            _dev_asker=Asker(subject.lmm, dev_asked, memory=memory),
            _questions=asked,
            _lmm=subject.lmm,
            _key=key,
            _store=context.artefacts,
            _progress=context.progress,
        )

    def image_for(self, record: Record) -> Image | None:
        """The figure of a test question."""
        return self._questions.image_for(record)

    def fold(self, question: Question) -> int:
        return self._folds.get(question.family, 0)

    def selection(self, trained: TrainedSae, fold: int = 0) -> Selection:
        """What is chosen for an SAE: from the cache, or searched on the dev questions."""
        kept = {name: value for name, value in self._key.items() if name != "test"}
        choosing = {"options": self.options.choosing(), "fold": fold}
        key = {**kept, **choosing, "sae": trained.identity, "hookpoint": trained.hookpoint.name}
        return self._store.get(
            "halluc-selection",
            key,
            lambda: select(self._dev_asker, trained, self.dev[fold], self.options, self._progress),
            lambda selection, folder: selection.save(folder),
            Selection.load,
        )

    def asked(self, trained: TrainedSae, questions: Sequence[Question]) -> Asked:
        """Questions with the plan that their own fold had no part in."""
        folds = [self.fold(q) for q in questions]
        plans = {fold: self.selection(trained, fold).plan for fold in set(folds)}
        return Asked(questions, [plans[fold] for fold in folds])

    def dense(self, trained: TrainedSae, fold: int) -> DenseDirections:
        """The dense baseline from the dev questions of a fold."""
        key = {**self._key, "sae": trained.identity, "hookpoint": trained.hookpoint.name}
        build = partial(self._dense, trained, fold)
        return self._store.get("halluc-dense", {**key, "fold": fold}, build)

    def _dense(self, trained: TrainedSae, fold: int) -> DenseDirections:
        asker, plan = self._dev_asker, self.selection(trained, fold).plan
        items = working_items(asker, self.dev[fold], self.options, self._progress)
        return dense_directions(asker, trained, items, plan)

    @cached_property
    def baselines(self) -> Baselines:
        """Another prompt and another decoding."""
        return Baselines.of(self._lmm, self._questions, self.asker, self.seed)

    @cached_property
    def neutral(self) -> Neutral:
        """What steering does to a prompt that asks nothing."""
        return Neutral(self._lmm, self._questions, self.asker.memory)

    @cached_property
    def why(self) -> Why:
        """Where answers come from."""
        return Why(self._lmm, self._questions, self.asker)


def _checked(dev: list[Question], test: Sequence[Question]) -> list[Question]:
    if crossing := crossing_families(dev, test):
        raise UsageError(
            f"{len(crossing)} image families are in both dev and test ({min(crossing)!r}); "
            "split questions by family"
        )
    return dev
