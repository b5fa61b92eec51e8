"""The embedded default, `testbed`: a trained LMM, labelled pictures, questions and a CLIP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from .images import REVISION, DrawnImages, drawn_images
from .questions import QuestionSet, drawn_questions
from .recipe.clip import label_words
from .recipe.words import UNCLEAR, highlight_text, picture_questions
from .world.labels import VOCABULARY
from .world.render import coverage

if TYPE_CHECKING:
    from ..sae.lmm import LMM, Prompt

WEIGHTS = Path(__file__).parent / "weights"
NAME = "testbed"


def _folder(name: str) -> Path:
    folder = WEIGHTS / name
    if not (folder / "model.safetensors").is_file():
        raise UsageError(
            f"the testbed's weights are missing at {folder}; run `lmmsae-eval testbed build`"
        )
    return folder


@cache
def load_lmm() -> LMM:
    """The embedded LLaVA, loaded by transformers like any other folder."""
    from ..sae.load import load_lmm as load

    lmm = load(str(_folder("lmm")))
    lmm.name = NAME
    return lmm


class Testbed:
    """What the built-in tasks need around the embedded LMM."""

    revision: str = f"{REVISION}/questions-1"
    note: str = (
        "A toy world: drawn scenes, 65 labels and a two-million-parameter model whose language "
        "priors were planted on purpose. Scores show that the metrics find what was planted; they "
        "say nothing about any other model."
    )
    default_hookpoints: Sequence[str] = ("model.layers.1", "model.layers.2", "model.layers.3")
    unclear_answer: str = UNCLEAR
    vocabulary: Mapping[str, str] = VOCABULARY

    def load_lmm(self) -> LMM:
        return load_lmm()

    def images(self, split: str, n: int, seed: int = 0) -> DrawnImages:
        """`n` labelled pictures of `train`, `search` or `score`."""
        return drawn_images(split, n, seed)

    def questions(self, split: str = "all") -> QuestionSet:
        return drawn_questions(split)

    def things(self) -> Mapping[str, Sequence[str]]:
        """The objects in the figures of its questions, by file name."""
        scenes = drawn_questions().scenes
        return {name: [thing.name for thing in scene.things] for name, scene in scenes.items()}

    def clip_folder(self) -> Path:
        return _folder("clip")

    def highlight_question(self, kind: str | None = None) -> str:
        return highlight_text(kind)

    def caption_of(self, label: str) -> str:
        return label_words(label)

    def sae_training_prompts(self, n: int, seed: int = 0) -> Iterable[Prompt]:
        """`n` training pictures, each with one of the questions that the LMM was trained on."""
        return _prompts(n, seed)


def _prompts(n: int, seed: int) -> Iterator[Prompt]:
    from ..sae.lmm import Prompt

    rng = np.random.default_rng([seed, 7])
    images = drawn_images("train", n, seed)
    for i, scene in enumerate(images.scenes):
        maps = np.stack(list(images.label_maps(i).values()))
        asked = [q for q in picture_questions(scene, coverage(maps), rng) if q.sees]
        yield Prompt(asked[rng.integers(len(asked))].text, images.image(i))
