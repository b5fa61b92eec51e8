"""Why an answer was wrong: did the image, the question or the template carry it?

The paper says that wrong answers come from the text's prior and not from the eyes. Here that is a
number per item, from attribution and from a causal check: image tokens of the sibling figure, whose
true answer is the other one, are put in place of the item's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import Asker
from .neutral import WORDING
from .questions import NO_FIGURE, Question, QuestionSet

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.attribution import Attribution
    from ...sae.lmm import LMM, Batch, Hook
    from ...sae.sae import TrainedSae

WHY = "why"


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of the absolute attribution of all latents; they add up to 1. None without any."""

    image: float | None
    question: float | None
    template: float | None
    error: float
    """|sum of the error term| / (that + the latents' absolute attribution): the unexplained."""


@dataclass(frozen=True, slots=True)
class Patch:
    """The sibling's image tokens in the item's place."""

    shift: float
    """How far the margin moved towards the sibling's true answer, in logits."""
    flipped: bool
    """Whether the answer became the sibling's true one, having been the other."""


class Why:
    """Attribution splits and patches over the questions of an `Asker`."""

    def __init__(self, lmm: LMM, questions: QuestionSet, asker: Asker) -> None:
        self._lmm = lmm
        self._asker = asker
        self._other_words = Asker(lmm, questions, lambda question: WORDING, asker.memory)

    def splits(self, trained: TrainedSae, questions: Sequence[Question]) -> list[Split]:
        """One a question, from one forward and backward."""
        from ...sae.attribution import attribute

        batch = self._asker.batch(questions)
        found = attribute(self._lmm, batch, trained.hookpoint, trained.sae)
        asked = question_tokens(batch, self._other_words.batch(questions))
        return _split(found, asked)

    def patches(
        self, trained: TrainedSae, questions: Sequence[Question], siblings: Sequence[Question]
    ) -> list[Patch | None]:
        """One a question; None where the two figures have different numbers of image tokens."""
        from ...sae.residual import capture

        batch, other = self._asker.batch(questions), self._asker.batch(siblings)
        theirs = capture(self._lmm, other, [trained.hookpoint])[trained.hookpoint]
        here, there = _image_tokens(batch), _image_tokens(other)
        fits = (here.sum(1) == there.sum(1)).tolist()
        hooks = {trained.hookpoint: _replaced(here, there, theirs, fits)}
        before = self._asker.untouched(questions)
        after = self._asker.ask(questions, hooks)
        patches: list[Patch | None] = []
        for sibling, was, now, fit in zip(siblings, before, after, fits, strict=True):
            truth = "yes" if sibling.gt else "no"
            towards = now.margin - was.margin if sibling.gt else was.margin - now.margin
            flipped = now.answer == truth != was.answer
            patches.append(Patch(towards, flipped) if fit else None)
        return patches


def siblings(questions: Sequence[Question]) -> dict[str, Question]:
    """Per question one of its pair with a figure and the other true answer; absent without one."""
    pairs: dict[str, list[Question]] = {}
    for question in questions:
        if question.record["visual_input"] != NO_FIGURE:
            pairs.setdefault(question.pair, []).append(question)
    found: dict[str, Question] = {}
    for group in pairs.values():
        for question in group:
            others = [q for q in group if q.gt != question.gt]
            if others:
                found[question.id] = others[0]
    return found


def question_tokens(batch: Batch, other: Batch) -> Tensor:
    """`(batch, tokens)` bool: text that differs from another prompt about the same images.

    What both have before and behind it is the template. Where an LMM shows no token ids, all text
    counts as the question's.
    """
    import torch

    from ...sae.tokens import token_mask

    text = token_mask(batch.kinds, "text").cpu()
    ids, others = batch.inputs.get("input_ids"), other.inputs.get("input_ids")
    if ids is None or others is None:
        return text
    inside = torch.zeros_like(text)
    for row in range(len(batch)):
        pads = int((batch.kinds[row] == 0).sum()), int((other.kinds[row] == 0).sum())
        mine, theirs = ids[row][pads[0] :].tolist(), others[row][pads[1] :].tolist()
        start, end = _common(mine, theirs), _common(mine[::-1], theirs[::-1])
        inside[row, pads[0] + start : ids.shape[1] - end] = True
    return text & inside


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How long both begin alike."""
    length = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        length += 1
    return length


def _split(found: Attribution, asked: Tensor) -> list[Split]:
    import torch

    from ...sae.tokens import token_mask

    size = found.values.abs().sum(-1).cpu()
    image, text = (token_mask(found.kinds, kind).cpu() for kind in ("image", "text"))
    parts = torch.stack([(size * mask).sum(1) for mask in (image, asked, text & ~asked)], 1)
    error = found.error.sum(1).abs().cpu()
    return [_shares(*row) for row in torch.cat([parts, error[:, None]], 1).tolist()]


def _shares(image: float, question: float, template: float, error: float) -> Split:
    total = image + question + template
    unexplained = error / (error + total) if error + total else 0.0
    if not total:
        return Split(None, None, None, unexplained)
    return Split(image / total, question / total, template / total, unexplained)


def _image_tokens(batch: Batch) -> Tensor:
    from ...sae.tokens import token_mask

    return token_mask(batch.kinds, "image")


def _replaced(here: Tensor, there: Tensor, theirs: Tensor, fits: Sequence[bool]) -> Hook:
    def hook(x: Tensor, batch: Batch) -> Tensor:
        new = x.clone()
        for row, fit in enumerate(fits):
            if fit and x.shape[1] == here.shape[1]:
                new[row, here[row].to(x.device)] = theirs[row, there[row].to(x.device)].to(x)
        return new

    return hook
