"""Collateral: what steering does to a prompt that asks for no yes or no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arms import Asked, steering_hook
from .asking import Asker
from .memory import Memory
from .questions import NO_FIGURE, Question, QuestionSet

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.lmm import LMM
    from ...sae.sae import TrainedSae

NEUTRAL = "neutral"
WORDING = "describe the image ."
N_NEUTRAL = 64
"""Figures that are described."""
_WORDS = 24
_GRAM = 4
_DEGENERATE = 0.5


@dataclass(frozen=True, slots=True)
class Collateral:
    """One description, steered against untouched."""

    kl: float
    """KL(untouched || steered) of the first token, in nats."""
    degenerate: bool
    """Empty, or more than half of its 4-grams are repeats."""
    was_degenerate: bool
    words: int
    was_words: int
    text: str


class Neutral:
    """The same figures and the same edits under a prompt that is no question."""

    def __init__(self, lmm: LMM, questions: QuestionSet, memory: Memory) -> None:
        self._asker = Asker(lmm, questions, lambda question: WORDING, memory)

    def compare(self, trained: TrainedSae, asked: Asked) -> list[Collateral]:
        """One result a question: its figure is described with and without its edit."""
        hooks = {trained.hookpoint: steering_hook(trained.sae, asked.edits)}
        before, after = (self._asker.logits(asked.questions, h) for h in (None, hooks))
        batch, lmm = self._asker.batch(asked.questions), self._asker.lmm
        plain, steered = (lmm.generate(batch, _WORDS, h) for h in (None, hooks))
        return [
            Collateral(
                kl, degenerate(now), degenerate(was), len(now.split()), len(was.split()), now
            )
            for kl, was, now in zip(_kl(before, after), plain, steered, strict=True)
        ]


def neutral_questions(questions: Sequence[Question]) -> list[Question]:
    """One question a figure, up to `N_NEUTRAL` figures."""
    first: dict[str, Question] = {}
    for question in questions:
        if question.record["visual_input"] != NO_FIGURE:
            first.setdefault(question.figure, question)
    return list(first.values())[:N_NEUTRAL]


def degenerate(text: str) -> bool:
    """Empty, or most of its 4-grams have been said before."""
    words = text.split()
    if not words:
        return True
    grams = Counter(zip(*(words[i:] for i in range(_GRAM)), strict=False))
    n = sum(grams.values())
    return n > 0 and (n - len(grams)) / n > _DEGENERATE


def _kl(before: Tensor, after: Tensor) -> list[float]:
    p, q = (logits.float().log_softmax(-1) for logits in (before, after))
    return [max(0.0, float(kl)) for kl in (p.exp() * (p - q)).sum(-1).tolist()]
