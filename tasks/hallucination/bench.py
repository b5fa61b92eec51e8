"""What one run of `halluc` works with: its questions, askers and selections, each made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from .asking import Asker
from .options import Options
from .questions import Question, crossing_families, read_questions, take_families
from .selection import Selection, select

if TYPE_CHECKING:
    from ...harness.artefacts import ArtefactStore
    from ...harness.progress import Progress
    from ...harness.task import Context
    from ...sae.topk import TrainedSae
    from ..subject import Subject

_SELECTION_VERSION = 1
"""Bumped whenever the same dev questions could lead to another choice."""


@dataclass
class Bench:
    """Test questions and their asker; dev questions are only touched by `selection`."""

    options: Options
    test: list[Question]
    asker: Asker
    dev: list[Question]
    _dev_asker: Asker
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
        dev, test = (
            read_questions(q.records) for q in (subject.dev_questions, subject.test_questions)
        )
        if crossing := crossing_families(dev, test):
            raise UsageError(
                f"{len(crossing)} image families are in both dev and test ({min(crossing)!r}); "
                "split questions by family"
            )
        return cls(
            options=options,
            test=take_families(test, options.n_test, context.seed),
            asker=Asker(subject.lmm, subject.test_questions),
            dev=dev,
            _dev_asker=Asker(subject.lmm, subject.dev_questions),
            _key=key,
            _store=context.artefacts,
            _progress=context.progress,
        )

    def selection(self, trained: TrainedSae) -> Selection:
        """What is chosen for an SAE: from the cache, or searched on the dev questions."""
        without_test = {name: value for name, value in self._key.items() if name != "test"}
        key = {**without_test, "sae": trained.identity, "hookpoint": trained.hookpoint.name}
        return self._store.get(
            "halluc-selection",
            key,
            lambda: select(self._dev_asker, trained, self.dev, self.options, self._progress),
            lambda selection, folder: selection.save(folder),
            Selection.load,
        )
