"""A drawn world whose latents are known masks, so that exact scores are known.

Every image has one scene everywhere and two objects, each of one colour, on whole patches. The fake
LMM's residual stream has one direction per label, where the label fills a patch; asked what is
highlighted it names the label that matches the lit pixels best. The identity is its perfect SAE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.task import Context, Sample, Task
from lmmsae_eval.sae.lmm import Batch, Hook, Hookpoint, Prompt, TokenKind
from lmmsae_eval.sae.topk import TopK, TrainedSae
from lmmsae_eval.tasks.subject import Subject
from PIL import Image

SIDE, PATCH = 32, 4
GRID = SIDE // PATCH
LABELS = {
    "scene": ("day", "night"),
    "object": ("box", "bar", "disc"),
    "colour": ("red", "green", "blue"),
}
VOCABULARY = {label: concept for concept, labels in LABELS.items() for label in labels}
N_LATENTS = 32
"""One per label, in the vocabulary's order; the rest are dead."""
WORDS = ("<pad>", "yes", "no", "something", *VOCABULARY, "unclear")


@dataclass
class Drawn:
    """Images whose label maps can be read back from their pixels, dimmed or not."""

    n: int = 60
    seed: int = 0
    name: str = "drawn"
    size: tuple[int, int] = (SIDE, SIDE)
    labels: Mapping[str, Sequence[str]] = field(default_factory=lambda: LABELS)
    vocabulary: Mapping[str, str] = field(default_factory=lambda: VOCABULARY)

    @property
    def revision(self) -> str:
        return f"{self.seed}/{self.n}"

    @property
    def ids(self) -> list[str]:
        return [f"{self.name}-{i}" for i in range(self.n)]

    def __len__(self) -> int:
        return self.n

    def size_of(self, i: int) -> tuple[int, int]:
        return self.size

    def label_maps(self, i: int) -> dict[str, np.ndarray]:
        return {concept: labels.copy() for concept, labels in _drawn(self.seed, i).items()}

    def mask(self, i: int, label: str) -> np.ndarray:
        concept = VOCABULARY[label]
        return self.label_maps(i)[concept] == LABELS[concept].index(label) + 1

    def image(self, i: int) -> Image.Image:
        maps = self.label_maps(i)
        green = 20 * (maps["scene"] - 1 + 2 * maps["colour"])
        return Image.fromarray(
            np.stack([40 * maps["object"], green, np.full_like(green, 200)], -1).astype(np.uint8)
        )


@lru_cache(maxsize=1024)
def _drawn(seed: int, i: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, i])
    maps = {concept: np.zeros((SIDE, SIDE), np.uint8) for concept in LABELS}
    maps["scene"][:] = rng.integers(1, 3)
    for column in (0, SIDE // 2):
        width, height = rng.integers(1, GRID // 2, 2) * PATCH
        x = column + int(rng.integers(0, (SIDE // 2 - width) // PATCH + 1)) * PATCH
        y = int(rng.integers(0, (SIDE - height) // PATCH + 1)) * PATCH
        maps["object"][y : y + height, x : x + width] = rng.integers(1, 4)
        maps["colour"][y : y + height, x : x + width] = rng.integers(1, 4)
    return maps


def read_maps(pixels: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Label maps and lit pixels of a drawn image."""
    lit = pixels[..., 2] > 100
    bright = np.where(lit[..., None], pixels, pixels.astype(int) * 4)
    green = bright[..., 1] // 20
    return {"scene": green % 2 + 1, "object": bright[..., 0] // 40, "colour": green // 2}, lit


def label_masks(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(labels, height, width)` and lit pixels."""
    maps, lit = read_maps(pixels)
    masks = [maps[c] == LABELS[c].index(label) + 1 for label, c in VOCABULARY.items()]
    return np.stack(masks), lit


@dataclass
class SeeingLMM:
    """Two layers; tokens are BOS, the patches, one of text. `says` overrides every answer."""

    name: str = "seeing"
    identity: str = "seeing-1"
    n_layers: int = 2
    d_model: int = N_LATENTS
    says: str | None = None
    n_images: int = 0
    """Images that went through `forward`."""

    def hookpoint(self, ref: str | int) -> Hookpoint:
        index = int(ref) - 1 if str(ref).isdigit() else int(str(ref).rpartition(".")[2])
        return Hookpoint(f"model.layers.{index}", index, f"layers.{index}")

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        pixels = torch.stack([torch.tensor(np.asarray(p.image)) for p in prompts])
        row = [TokenKind.BOS, *[TokenKind.IMAGE] * GRID**2, TokenKind.TEXT]
        kinds = torch.tensor([row] * len(prompts), dtype=torch.int8)
        return Batch({"pixels": pixels}, kinds, [grid_boxes()] * len(prompts))

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> torch.Tensor | None:
        self.n_images += len(batch)
        x = torch.stack([self._residual(p.numpy()) for p in batch.inputs["pixels"]])
        for hookpoint, hook in (hooks or {}).items():
            assert hookpoint.index < self.n_layers
            hook(x, batch)
        if stop_after is not None:
            return None
        return torch.stack([self._logits(p.numpy()) for p in batch.inputs["pixels"]])

    def generate(self, batch: Batch, max_new_tokens: int, hooks: Any = None) -> list[str]:
        return [f" {self._answer(p.numpy()).upper()}. " for p in batch.inputs["pixels"]]

    def token_id(self, word: str) -> int:
        if word not in WORDS:
            raise ValueError(f"{word!r} is no single token")
        return WORDS.index(word)

    def _residual(self, pixels: np.ndarray) -> torch.Tensor:
        masks, _ = label_masks(pixels)
        cells = (
            masks.reshape(len(masks), GRID, PATCH, GRID, PATCH).mean((2, 4)).reshape(len(masks), -1)
        )
        strength = 1 + (int(pixels.sum()) % 97) / 97
        x = torch.zeros(GRID**2 + 2, N_LATENTS)
        x[1:-1, : len(masks)] = torch.tensor((cells >= 0.5) * strength).float().T
        return x

    def _answer(self, pixels: np.ndarray) -> str:
        return WORDS[int(self._logits(pixels).argmax())]

    def _logits(self, pixels: np.ndarray) -> torch.Tensor:
        """The better a label fits the lit pixels, the likelier it is said; below .3 nothing is."""
        logits = torch.zeros(len(WORDS))
        masks, lit = label_masks(pixels)
        overlap = (masks & lit).sum((1, 2)) / np.maximum((masks | lit).sum((1, 2)), 1)
        for label, fit in zip(VOCABULARY, overlap, strict=True):
            logits[WORDS.index(label)] = 20 * fit
        logits[WORDS.index("unclear")] = 20 * 0.3
        if self.says is not None:
            logits[WORDS.index(self.says)] = 40
        return logits


def grid_boxes() -> torch.Tensor:
    starts = torch.arange(GRID) * PATCH
    y, x = torch.meshgrid(starts, starts, indexing="ij")
    return torch.stack([x, y, x + PATCH, y + PATCH], -1).reshape(-1, 4).float()


class DrawnProvider:
    """The provider of the drawn world."""

    revision = "drawn-1"
    note = "drawn"
    default_hookpoints = ("model.layers.0",)
    unclear_answer = "unclear"
    vocabulary = VOCABULARY

    def __init__(self, clip: Path) -> None:
        self._clip = clip

    def images(self, split: str, n: int, seed: int) -> Drawn:
        return Drawn(n, {"search": 1, "score": 2}[split], split)

    def clip_folder(self) -> Path:
        return self._clip

    def highlight_question(self, kind: str | None) -> str:
        return "what is highlighted ?"

    def caption_of(self, label: str) -> str:
        return f"a {label}"


def perfect_sae(name: str = "perfect", layer: int = 0) -> TrainedSae:
    """One latent per label and no other."""
    eye = torch.eye(N_LATENTS)
    sae = TopK(eye, torch.zeros(N_LATENTS), eye.clone(), torch.zeros(N_LATENTS), 3)
    return TrainedSae(name, SeeingLMM().hookpoint(layer + 1), sae)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP of transformers' own classes."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    special = ("<pad>", "<s>", "</s>", "<unk>", "a")
    words = Tokenizer(WordLevel({w: i for i, w in enumerate((*special, *VOCABULARY))}, "<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**small, "vocab_size": len(tokenizer), "eos_token_id": 2},
        vision_config={**small, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=16,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(size=square, crop_size=square)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def study_context(clip_folder: Path) -> Callable[..., Context[Subject]]:
    """A context around the perfect SAE and, on request, its untrained control."""

    def make(
        saes: Sequence[TrainedSae] | None = None,
        lmm: SeeingLMM | None = None,
        root: Path | None = None,
        **params: Any,
    ) -> Context[Subject]:
        subject = Subject(
            lmm=lmm or SeeingLMM(),
            saes=saes or [perfect_sae(), perfect_sae().untrained(seed=3)],
            provider=DrawnProvider(clip_folder),
            n_search=120,
            n_score=60,
        )
        return Context(subject, ArtefactStore(root), SilentProgress(), params=params)

    return make


@pytest.fixture(scope="session")
def world() -> Any:
    """This module's classes, for tests that build their own."""
    import types

    return types.SimpleNamespace(
        Drawn=Drawn,
        SeeingLMM=SeeingLMM,
        perfect_sae=perfect_sae,
        grid_boxes=lambda: grid_boxes().numpy(),
        vocabulary=VOCABULARY,
        n_latents=N_LATENTS,
        side=SIDE,
    )


@pytest.fixture(scope="session")
def run_task() -> Callable[..., tuple[list[dict[str, Any]], list[Any]]]:
    """Lines and rows of a task, as the runner would make them."""
    from lmmsae_eval.harness.results import line_document

    def run(
        task: Task[Subject], context: Context[Subject]
    ) -> tuple[list[dict[str, Any]], list[Any]]:
        samples: list[Sample] = list(task.samples(context))
        outcomes = task.evaluate(samples, context)
        lines = [
            line_document(task.spec, context.protocol, sample, outcome)
            for sample, outcome in zip(samples, outcomes, strict=True)
        ]
        return lines, list(task.aggregate(lines))

    return run
