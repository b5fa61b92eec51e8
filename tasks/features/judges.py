"""Judges of consistency: the labels of the image set, or a chat model that sees the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ...harness.question import Form, item_code
from .masks import dimmed, share
from .prompts import CHOICE, CONSISTENCY, choice_question, consistency_question

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.chat import ChatClient
    from .imageset import ImageSet
    from .masks import Mask
    from .prompts import PromptText
    from .segment import Segmenter
    from .study import CachedImages

COVERED = 0.5
"""A label fits an image when it covers this share of the active patches ..."""
AGREEING = 0.6
"""... and fits a latent when it fits this share of its images: 3 of 5."""


Pictures = Sequence[tuple[int, "Mask"]]
"""(index within the image set, lit pixels)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """1 fits (of two: the first one), 0 does not (the second), None: the judge said neither."""

    value: int | None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


class Judge(Protocol):
    """Says whether an explanation fits the lit parts of some images. Raises when it breaks."""

    at_once: int
    """How many threads may ask it."""

    def verdict(self, explanation: str, pictures: Pictures, key: str, again: int = 0) -> Verdict:
        """Judge one item.

        Args:
            key: names the item in the record; it must not reach the judge.
            again: asked for the so-manieth time: the same words, and a new answer.
        """

    def choice(self, first: str, second: str, pictures: Pictures, key: str) -> Verdict:
        """Which of two explanations fits better."""


class LabelJudge:
    """The image set's own labels: the truth of the task `iou` too. It knows no other words."""

    at_once = 1

    def __init__(self, images: ImageSet, segmenter: Segmenter) -> None:
        self._images, self._segmenter = images, segmenter

    def verdict(self, explanation: str, pictures: Pictures, key: str, again: int = 0) -> Verdict:
        shares = self._shares(explanation, pictures)
        if shares is None:
            return Verdict(None, "the label judge knows no such label", {"judge": "labels"})
        fitting = sum(part >= COVERED for part in shares)
        detail = {"judge": "labels", "covered": [round(part, 4) for part in shares]}
        return Verdict(int(fitting >= AGREEING * len(shares)), detail=detail)

    def choice(self, first: str, second: str, pictures: Pictures, key: str) -> Verdict:
        detail = {"judge": "labels"}
        shares = [self._shares(explanation, pictures) for explanation in (first, second)]
        a, b = (sum(part) if part is not None else None for part in shares)
        if a is None or b is None:
            return Verdict(None, "the label judge knows no such label", detail)
        if a == b:
            return Verdict(None, "both labels fit as well", detail)
        return Verdict(int(a > b), detail=detail)

    def _shares(self, explanation: str, pictures: Pictures) -> list[float] | None:
        """Of each picture's lit pixels, the share that the label covers."""
        shares = []
        for index, lit in pictures:
            truth = self._segmenter.segment(self._images, index, explanation)
            if truth is None:
                return None
            shares.append(share(truth, lit) or 0.0)
        return shares


class ChatJudge:
    """A chat model that is shown the dimmed pictures and must reply in a form, nothing else."""

    def __init__(self, client: ChatClient, images: CachedImages) -> None:
        self._client, self._images = client, images
        self.at_once = client.concurrency

    def verdict(self, explanation: str, pictures: Pictures, key: str, again: int = 0) -> Verdict:
        form = Form(item_code("verdict", key), "fits", (0, 1))
        question = consistency_question(explanation, form)
        asked = f"{key}#{again}" if again else key
        return self._ask(CONSISTENCY, question, form, pictures, asked, fresh=again > 0)

    def choice(self, first: str, second: str, pictures: Pictures, key: str) -> Verdict:
        form = Form(item_code("choice", key), "better", ("A", "B"))
        return self._ask(CHOICE, choice_question(first, second, form), form, pictures, key)

    def _ask(
        self,
        prompt: PromptText,
        question: str,
        form: Form,
        pictures: Pictures,
        key: str,
        *,
        fresh: bool = False,
    ) -> Verdict:
        shown: list[Image] = [dimmed(self._images(index), lit) for index, lit in pictures]
        reply = self._client.ask(prompt.text, [*shown, question], key, form, fresh=fresh)
        detail = {"judge": reply.model, "raw": reply.text[:500], **prompt.provenance()}
        said = form.read(reply.text)
        if said is None:
            return Verdict(None, "the reply is not in the form that was asked for", detail)
        return Verdict(int(said in (1, "A")), detail=detail)
