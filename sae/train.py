"""Training SAEs on an LMM: all layers from one forward."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError
from .formats import save_sae
from .lmm import LMM, Hookpoint, Prompt
from .progress import Progress, Quiet
from .source import TokenBatch, activations, endless, shuffled
from .step import AuxK, Forward, TopKTrainer, variance
from .tokens import TokenSet
from .topk import TopK


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the model and the prompts."""

    n_latents: int = 256
    k: int = 4
    tokens: TokenSet = "all"
    steps: int = 500
    batch_tokens: int = 2048
    lr: float = 2e-3
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises; it falls linearly over the last fifth."""
    auxk_alpha: float = 1 / 32
    dead_after: int = 100_000
    """Tokens without firing that make a latent dead."""
    seed: int = 0


def published_lr(n_latents: int) -> float:
    """The published rule: 2e-4 / sqrt(n_latents / 2^14)."""
    return 2e-4 / math.sqrt(n_latents / 2**14)


def train(
    lmm: LMM,
    prompts: Iterable[Prompt],
    hookpoints: Sequence[Hookpoint],
    *,
    out: Path,
    n_latents: int = 256,
    k: int = 4,
    tokens: TokenSet = "all",
    steps: int | None = None,
    n_tokens: int | None = None,
    batch_tokens: int = 2048,
    lr: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Train one TopK SAE per hookpoint and return their folders under `out`."""
    wanted = steps or math.ceil((n_tokens or 1_000_000) / batch_tokens)
    recipe = Recipe(n_latents, k, tokens, wanted, batch_tokens, lr or Recipe.lr, seed=seed)
    raise NotImplementedError(recipe)
