"""Judges of consistency: the labels of the image set, or a chat model that sees the pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .masks import dimmed, share
from .prompts import CONSISTENCY, consistency_question

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.chat import ChatClient
    from .imageset import ImageSet
    from .masks import Mask
    from .segment import Segmenter
    from .study import CachedImages

COVERED = 0.5
"""A label fits an image when it covers this share of the active patches ..."""
AGREEING = 0.6
"""... and fits a latent when it fits this share of its images: 3 of 5."""
_VERDICT = re.compile(r"\s*([01])\s*")


@dataclass(frozen=True, slots=True)
class Verdict:
    """1 fits, 0 does not, None: the judge said neither."""

    value: int | None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


class Judge(Protocol):
    """Says whether an explanation fits the lit parts of some images. Raises when it breaks."""

    def verdict(self, explanation: str, pictures: Sequence[tuple[int, Mask]], key: str) -> Verdict:
        """Judge one item.

        Args:
            pictures: (index within the image set, lit pixels).
            key: names the item in the record; it must not reach the judge.
        """


class LabelJudge:
    """The image set's own labels: the truth of the task `iou` too. It knows no other words."""

    def __init__(self, images: ImageSet, segmenter: Segmenter) -> None:
        self._images, self._segmenter = images, segmenter

    def verdict(self, explanation: str, pictures: Sequence[tuple[int, Mask]], key: str) -> Verdict:
        shares = []
        for index, lit in pictures:
            truth = self._segmenter.segment(self._images, index, explanation)
            if truth is None:
                return Verdict(None, "the label judge knows no such label", {"judge": "labels"})
            shares.append(share(truth, lit) or 0.0)
        fitting = sum(part >= COVERED for part in shares)
        detail = {"judge": "labels", "covered": [round(part, 4) for part in shares]}
        return Verdict(int(fitting >= AGREEING * len(shares)), detail=detail)


class ChatJudge:
    """A chat model that is shown the dimmed pictures and must answer 0 or 1, nothing else."""

    def __init__(self, client: ChatClient, images: CachedImages) -> None:
        self._client, self._images = client, images

    def verdict(self, explanation: str, pictures: Sequence[tuple[int, Mask]], key: str) -> Verdict:
        shown: list[Image] = [dimmed(self._images(index), lit) for index, lit in pictures]
        question = consistency_question(explanation)
        reply = self._client.ask(CONSISTENCY.text, [*shown, question], key)
        detail = {"judge": reply.model, "raw": reply.text[:500], **CONSISTENCY.provenance()}
        found = _VERDICT.fullmatch(reply.text)
        if found is None:
            return Verdict(None, "the judge said neither 0 nor 1", detail)
        return Verdict(int(found[1]), detail=detail)
