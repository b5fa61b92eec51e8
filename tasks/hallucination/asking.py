"""Asking the LMM yes/no questions in batches, with or without hooks in its residual stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...sae.lmm import Batch, Hook, Hookpoint, Prompt
from .benchmark import NO, YES, parse_answer
from .memory import Memory
from .questions import Question, QuestionSet

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.lmm import LMM

_SPOKEN_TOKENS = 8
"""Enough for 'Yes, there is' and the like, when the first token is neither yes nor no."""
_KEPT_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said to one question."""

    margin: float
    """logit(yes) - logit(no) at the answer's first token."""
    text: str
    """The greedy answer."""

    @property
    def answer(self) -> str | None:
        """`yes`, `no`, or None when the text is neither."""
        return parse_answer(self.text)


class Asker:
    """Puts questions to one LMM. Prepared batches of the latest questions are kept.

    A call asks all its questions at once: `memory.over` says how many that may be.
    """

    def __init__(
        self,
        lmm: LMM,
        questions: QuestionSet,
        wording: Callable[[Question], str] = lambda question: question.text,
        memory: Memory | None = None,
    ) -> None:
        self.lmm = lmm
        self.memory = memory or Memory()
        self._image_for = questions.image_for
        self._wording = wording
        self._prepared = self.memory.shelf()
        self._untouched: dict[str, Reply] = {}
        self._words = _answer_tokens(lmm)

    def batch(self, questions: Sequence[Question]) -> Batch:
        """The questions as one batch."""
        key = tuple(q.id for q in questions)
        if key not in self._prepared:
            prompts = [Prompt(self._wording(q), self._image_for(q.record)) for q in questions]
            self._prepared[key] = self.lmm.prepare(prompts)
        self._prepared.move_to_end(key)
        while len(self._prepared) > _KEPT_BATCHES:
            self._prepared.popitem(last=False)
        return self._prepared[key]

    def ask(
        self, questions: Sequence[Question], hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[Reply]:
        """One reply per question, from one forward."""
        if not questions:
            return []
        logits = self.logits(questions, hooks)
        texts = self._texts(logits, self.batch(questions), hooks)
        margins = self._margins(logits)
        return [Reply(margin, text) for margin, text in zip(margins, texts, strict=True)]

    def logits(
        self, questions: Sequence[Question], hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> Tensor:
        """`(questions, vocabulary)` of the answers' first token."""
        import torch

        with torch.no_grad():
            logits = self.lmm.forward(self.batch(questions), hooks)
        assert logits is not None
        return logits

    def first_words(self, chosen: Tensor, margins: Tensor) -> list[Reply]:
        """Replies of one token, the likeliest of `chosen`; empty where that is neither word."""
        tokens = [int(token) for token in chosen.argmax(-1).tolist()]
        return [
            Reply(margin, self._words.get(token, ""))
            for margin, token in zip(self._margins(margins), tokens, strict=True)
        ]

    def untouched(self, questions: Sequence[Question]) -> list[Reply]:
        """Replies of the model as it is; each question is asked once."""
        new = [q for q in questions if q.id not in self._untouched]
        self._untouched.update(zip((q.id for q in new), self.ask(new), strict=True))
        return [self._untouched[q.id] for q in questions]

    def steered(
        self,
        questions: Sequence[Question],
        hookpoint: Hookpoint,
        hook: Callable[[Sequence[int]], Hook],
        edited: Sequence[bool],
    ) -> list[Reply]:
        """Replies with `hook(rows)` at the hookpoint; rows without an edit stay untouched."""
        rows = [row for row, is_edited in enumerate(edited) if is_edited]
        replies = dict(zip(rows, self._edited(questions, hookpoint, hook, rows), strict=True))
        rest = [row for row in range(len(questions)) if row not in replies]
        untouched = self.untouched([questions[row] for row in rest])
        replies.update(zip(rest, untouched, strict=True))
        return [replies[row] for row in range(len(questions))]

    def _edited(
        self,
        questions: Sequence[Question],
        hookpoint: Hookpoint,
        hook: Callable[[Sequence[int]], Hook],
        rows: Sequence[int],
    ) -> list[Reply]:
        if not rows:
            return []
        return self.ask([questions[row] for row in rows], {hookpoint: hook(rows)})

    def _margins(self, logits: Tensor) -> list[float]:
        yes, no = (self.lmm.token_id(word) for word in (YES, NO))
        return [float(m) for m in (logits[:, yes].float() - logits[:, no].float()).tolist()]

    def _texts(
        self, logits: Tensor, batch: Batch, hooks: Mapping[Hookpoint, Hook] | None
    ) -> list[str]:
        """The greedy answers; text is generated only if some first token is neither word."""
        first = [int(token) for token in logits.argmax(-1).tolist()]
        if all(token in self._words for token in first):
            return [self._words[token] for token in first]
        spoken = self.lmm.generate(batch, _SPOKEN_TOKENS, hooks)
        return [self._words.get(t, text) for t, text in zip(first, spoken, strict=True)]


def _answer_tokens(lmm: LMM) -> dict[int, str]:
    """First tokens that say all: the two words, capitalised too where that is another token."""
    tokens = {lmm.token_id(word): word for word in (YES, NO)}
    for word in (YES, NO):
        with suppress(ValueError):
            tokens.setdefault(lmm.token_id(word.capitalize()), word)
    return tokens
