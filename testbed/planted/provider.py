"""The planted subject's pictures and questions, reached by the name `testbed:planted`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...sae.lmm import Prompt
from ..images import DrawnImages
from ..provider import Testbed
from ..questions import QuestionSet
from ..recipe.words import UNCLEAR
from ..world.labels import VOCABULARY
from .dictionary import N_LAYERS
from .lmm import VERSION, PlantedLMM, load_lmm

if TYPE_CHECKING:
    from PIL.Image import Image


class KnownImages(DrawnImages):
    """Drawn pictures that the planted subject gets to know as they are handed out."""

    def image(self, i: int) -> Image:
        return load_lmm().known.add(self.scenes[i], super().image(i))


class KnownQuestions(QuestionSet):
    """The testbed's questions, about figures that the planted subject gets to know."""

    def image_for(self, record: Mapping[str, str | None]) -> Image | None:
        image = super().image_for(dict(record))
        filename = record["filename"]
        return load_lmm().known.add(self.scenes[filename], image) if image and filename else None


class PlantedTestbed:
    """The same world as the testbed, around the planted subject."""

    revision: str = f"{Testbed.revision}/{VERSION}"
    note: str = (
        "A planted subject: a linear stand-in whose features, priors and causes are known. It "
        "tests metrics and is never a score."
    )
    default_hookpoints: Sequence[str] = tuple(f"model.layers.{i}" for i in range(N_LAYERS))
    unclear_answer: str = UNCLEAR
    vocabulary: Mapping[str, str] = VOCABULARY

    def __init__(self) -> None:
        self._trained = Testbed()

    def load_lmm(self) -> PlantedLMM:
        return load_lmm()

    def images(self, split: str, n: int, seed: int = 0) -> KnownImages:
        """`n` labelled pictures of `train`, `search` or `score`."""
        drawn = self._trained.images(split, n, seed)
        return KnownImages(drawn.name, drawn.revision, drawn.scenes)

    def questions(self, split: str = "all") -> KnownQuestions:
        asked = self._trained.questions(split)
        return KnownQuestions(asked.name, asked.revision, asked.records, asked.scenes)

    def things(self) -> Mapping[str, Sequence[str]]:
        return self._trained.things()

    def clip_folder(self) -> Path:
        """The trained testbed's CLIP: it is of the same world."""
        return self._trained.clip_folder()

    def highlight_question(self, kind: str | None = None) -> str:
        return self._trained.highlight_question(kind)

    def caption_of(self, label: str) -> str:
        return self._trained.caption_of(label)

    def sae_training_prompts(self, n: int, seed: int = 0) -> Iterable[Prompt]:
        """The trained testbed's training prompts."""
        return _known_prompts(
            self._trained.sae_training_prompts(n, seed), self.images("train", n, seed)
        )


def _known_prompts(prompts: Iterable[Prompt], images: KnownImages) -> Iterator[Prompt]:
    for scene, prompt in zip(images.scenes, prompts, strict=True):
        if prompt.image is not None:
            load_lmm().known.add(scene, prompt.image)
        yield prompt
