"""Captions of test figures under an arm: the model as it is, spliced, steered, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..hallucination.arms import SPLICED, STEERED_GLOBAL, standard_hooks
from ..hallucination.asking import Asker
from ..hallucination.questions import NO_FIGURE, Question

if TYPE_CHECKING:
    from ...sae.lmm import LMM, Hook, Hookpoint
    from ...sae.sae import TrainedSae
    from ..hallucination.arms import Asked
    from ..hallucination.questions import QuestionSet
    from .options import Options


def one_per_figure(questions: Sequence[Question], n: int) -> list[Question]:
    """The first question about each of `n` figures: its topic says which edit the figure gets."""
    first: dict[str, Question] = {}
    for question in questions:
        if question.record["visual_input"] != NO_FIGURE:
            first.setdefault(question.figure, question)
    return list(first.values())[:n]


class Captioner:
    """Describes figures. What the untouched model says is asked once."""

    def __init__(self, lmm: LMM, questions: QuestionSet, options: Options) -> None:
        self._lmm = lmm
        self._asker = Asker(lmm, questions, lambda question: options.prompt)
        self._longest = options.max_new_tokens
        self._untouched: dict[str, str] = {}

    def untouched(self, figures: Sequence[Question]) -> list[str]:
        new = [q for q in figures if q.id not in self._untouched]
        if new:
            self._untouched |= zip((q.id for q in new), self._generate(new), strict=True)
        return [self._untouched[q.id] for q in figures]

    def under(self, arm: str, trained: TrainedSae, asked: Asked, seed: int) -> list[str]:
        """One caption a figure; figures whose topic has no edit stay untouched."""
        edits = asked.everywhere if arm == STEERED_GLOBAL else asked.edits
        rows = [row for row, edit in enumerate(edits) if arm in SPLICED or edit]
        said = dict(enumerate(self.untouched(asked.questions)))
        if rows:
            hook = standard_hooks(arm, trained.sae, asked, edits, seed)(rows)
            chosen = [asked.questions[row] for row in rows]
            captions = self._generate(chosen, {trained.hookpoint: hook})
            said |= zip(rows, captions, strict=True)
        return [said[row] for row in range(len(asked.questions))]

    def _generate(
        self, figures: Sequence[Question], hooks: dict[Hookpoint, Hook] | None = None
    ) -> list[str]:
        return self._lmm.generate(self._asker.batch(figures), self._longest, hooks)
