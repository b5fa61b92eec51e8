"""Baselines that edit no stream: another prompt, and visual contrastive decoding (VCD)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import Asker, Reply
from .questions import NO_FIGURE, Question, QuestionSet, Record

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...sae.lmm import LMM

PROMPT = "prompt"
"""The question with a request to trust the image."""
VCD = "vcd"
REQUEST = "Answer only from the image."
ALPHA = 1.0
"""How strongly the noisy image's logits are subtracted."""
BETA = 0.1
"""Tokens less likely than this share of the likeliest are never taken."""
STEP = 500
"""Of 1,000 diffusion steps: how much noise the contrast image has."""
_STEPS = 1000


def prompted(question: Question) -> str:
    """Questions without an image stay as they are: there is nothing to trust."""
    if question.record["visual_input"] == NO_FIGURE:
        return question.text
    return f"{question.text} {REQUEST}"


@dataclass(frozen=True)
class Baselines:
    """The two decoding baselines over the same questions as an `Asker`."""

    asker: Asker
    _prompting: Asker
    _noisy: Asker

    @classmethod
    def of(cls, lmm: LMM, questions: QuestionSet, asker: Asker, seed: int) -> Baselines:
        noisy = _Noisy(questions, seed)
        prompting = Asker(lmm, questions, prompted, asker.memory)
        return cls(asker, prompting, Asker(lmm, noisy, memory=asker.memory))

    def replies(self, arm: str, questions: Sequence[Question]) -> list[Reply]:
        """One reply per question; both answer in their first token."""
        if arm == PROMPT:
            return self._prompting.untouched(questions)
        return self._contrasted(questions)

    def _contrasted(self, questions: Sequence[Question]) -> list[Reply]:
        """VCD (Leng et al., arXiv 2311.16922): (1 + a) logits - a logits of the noised image.

        A question without an image has nothing to contrast, and keeps its reply.
        """
        import torch

        seen = [q for q in questions if q.record["visual_input"] != NO_FIGURE]
        plain = self.asker.untouched(questions)
        found = {q.id: reply for q, reply in zip(questions, plain, strict=True)}
        if seen:
            clear, noisy = self.asker.logits(seen), self._noisy.logits(seen)
            mixed = (1 + ALPHA) * clear - ALPHA * noisy
            floor = clear.amax(-1, keepdim=True) + torch.log(torch.tensor(BETA))
            kept = mixed.masked_fill(clear < floor, -torch.inf)
            mended = self.asker.first_words(kept, mixed)
            found |= {q.id: reply for q, reply in zip(seen, mended, strict=True)}
        return [found[q.id] for q in questions]


class _Noisy:
    """A question set whose figures have been diffused, each with its own noise."""

    def __init__(self, questions: QuestionSet, seed: int) -> None:
        self.revision = f"{questions.revision}/noised-{STEP}-{seed}"
        self.records: Sequence[Record] = questions.records
        self._image_for: Callable[[Record], Image | None] = questions.image_for
        self._seed = seed

    def image_for(self, record: Record) -> Image | None:
        image = self._image_for(record)
        return None if image is None else noised(image, f"{self._seed}:{record['filename']}")


def noised(image: Image, name: str) -> Image:
    """sqrt(a) x + sqrt(1 - a) noise, a after `STEP` steps of a sigmoid schedule of betas."""
    import numpy as np
    from PIL import Image as Pillow

    steps = np.linspace(-6, 6, _STEPS)
    betas = 1 / (1 + np.exp(-steps)) * (0.5e-2 - 1e-5) + 1e-5
    kept = float(np.cumprod(1 - betas)[STEP])
    x = np.asarray(image.convert("RGB"), dtype=np.float64) / 127.5 - 1
    noise = np.random.default_rng(random.Random(name).getrandbits(62)).standard_normal(x.shape)
    mixed = kept**0.5 * x + (1 - kept) ** 0.5 * noise
    pixels = np.clip((mixed + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return Pillow.fromarray(pixels)
