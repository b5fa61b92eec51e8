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
from torch import Tensor

from ..errors import UsageError
from .files import told_in_one_line, write_atomically
from .formats import save_sae
from .lmm import LMM, Hookpoint, Prompt, TokenKind
from .progress import Progress, Quiet
from .source import TokenBatch, activations, endless, shuffled
from .step import AuxK, Forward, TopKTrainer, variance
from .tokens import TokenSet
from .topk import TopK

LOG_EVERY = 50
BUFFER_BATCHES = 16
KEEP_BYTES = 2**30
"""Activations up to this size are kept in memory instead of being made anew in each pass."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the model and the prompts."""

    n_latents: int = 256
    k: int = 4
    tokens: TokenSet = "all"
    steps: int = 500
    batch_tokens: int = 2048
    lr: float = 2e-3
    """For small dictionaries. On the testbed 4e-3 and 8e-3 lower FVU further, but their latents
    match its concepts less well.
    """
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises."""
    cooldown: float = 0.2
    """Share over which it falls at the end."""
    auxk_alpha: float = 1 / 32
    dead_after: int = 100_000
    """Tokens without firing that make a latent dead."""
    seed: int = 0


def published_lr(n_latents: int) -> float:
    """The published rule: 2e-4 / sqrt(n_latents / 2^14)."""
    return 2e-4 / math.sqrt(n_latents / 2**14)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear rise, plateau, linear fall."""
    rise = (step + 1) / max(1.0, recipe.warmup * recipe.steps)
    fall = (recipe.steps - step) / max(1.0, recipe.cooldown * recipe.steps)
    return recipe.lr * min(1.0, rise, fall)


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
    """Train one TopK SAE per hookpoint and return their folders under `out`.

    `out` gets `<hookpoint>/{cfg.json,sae.safetensors}`, `config.json` (the recipe) and
    `metrics.jsonl` (FVU, L0 and dead share per hookpoint, FVU also per token kind). Give `steps` or
    `n_tokens`; without either it is a million tokens. `prompts` are gone through again and again,
    or once if they are an iterator. Raises `UsageError` for no prompts, no hookpoints, k beyond
    n_latents and an `out` that can't be written.
    """
    if not hookpoints:
        raise UsageError("no hookpoints to train at; name at least one layer")
    n_tokens = 1_000_000 if n_tokens is None else n_tokens
    if min(1 if steps is None else steps, n_tokens, batch_tokens, n_latents) < 1:
        raise UsageError("steps, n_tokens, batch_tokens and n_latents must be at least 1")
    if not 1 <= k <= n_latents:
        raise UsageError(
            f"k is {k} but there are {n_latents} latents; choose k from 1 to {n_latents}"
        )
    steps = math.ceil(n_tokens / batch_tokens) if steps is None else steps
    recipe = Recipe(n_latents, k, tokens, steps, batch_tokens, lr or Recipe.lr, seed=seed)
    return Training(lmm, hookpoints, recipe, out, progress or Quiet()).run(prompts)


class Training:
    """One run of `train`."""

    def __init__(
        self,
        lmm: LMM,
        hookpoints: Sequence[Hookpoint],
        recipe: Recipe,
        out: Path,
        progress: Progress,
    ) -> None:
        self.lmm = lmm
        self.hookpoints = list(dict.fromkeys(hookpoints))
        self.recipe = recipe
        self.out = out
        self.progress = progress
        self._metrics = out / "metrics.jsonl"

    def run(self, prompts: Iterable[Prompt]) -> list[Path]:
        with told_in_one_line(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self.out / "config.json", json.dumps(self._config(), indent=1) + "\n")
            self._metrics.write_text("")
        trainers = self._learn(prompts)
        return [
            save_sae(trainer.sae, self.out / hookpoint.name, {"hookpoint": hookpoint.name})
            for hookpoint, trainer in trainers.items()
        ]

    def _learn(self, prompts: Iterable[Prompt]) -> dict[Hookpoint, TopKTrainer]:
        trainers: dict[Hookpoint, TopKTrainer] = {}
        batches = islice(self._batches(prompts), self.recipe.steps)
        n = len(self.hookpoints)
        label = f"training {n} SAE{'s' * (n > 1)}"
        with self.progress.step(label, self.recipe.steps) as bar:
            for number, batch in enumerate(batches):
                trainers = trainers or self._start(batch)
                self._step(number, batch, trainers)
                bar.advance()
        if not trainers:
            raise UsageError("no prompts to train on; the image folder or data set is empty")
        return trainers

    def _step(self, number: int, batch: TokenBatch, trainers: dict[Hookpoint, TopKTrainer]) -> None:
        lr = learning_rate(self.recipe, number)
        logged = number % LOG_EVERY == 0 or number == self.recipe.steps - 1
        for hookpoint, trainer in trainers.items():
            x = batch.activations[hookpoint]
            done = trainer.step(x, lr)
            if logged:
                line = {"step": number, "hookpoint": hookpoint.name, "lr": lr}
                self._log(line | measure(trainer, x, batch.kinds, done))

    def _log(self, line: dict[str, Any]) -> None:
        with told_in_one_line(self._metrics), self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _batches(self, prompts: Iterable[Prompt]) -> Iterator[TokenBatch]:
        recipe = self.recipe
        chunks = endless(
            lambda: activations(self.lmm, prompts, self.hookpoints, recipe.tokens), KEEP_BYTES
        )
        generator = torch.Generator().manual_seed(recipe.seed)
        return shuffled(
            chunks, recipe.batch_tokens, BUFFER_BATCHES * recipe.batch_tokens, generator
        )

    def _start(self, batch: TokenBatch) -> dict[Hookpoint, TopKTrainer]:
        recipe = self.recipe
        auxk = AuxK(recipe.auxk_alpha, max(1, self.lmm.d_model // 8)) if recipe.auxk_alpha else None
        return {
            hookpoint: TopKTrainer(
                TopK.random(recipe.n_latents, self.lmm.d_model, recipe.k, recipe.seed, x.mean(0)),
                recipe.lr,
                auxk,
                recipe.dead_after,
            )
            for hookpoint, x in batch.activations.items()
        }

    def _config(self) -> dict[str, Any]:
        hookpoints = [hookpoint.name for hookpoint in self.hookpoints]
        return {
            "model": self.lmm.name,
            "model_identity": self.lmm.identity,
            "hookpoints": hookpoints,
            **asdict(self.recipe),
        }


def measure(trainer: TopKTrainer, x: Tensor, kinds: Tensor, done: Forward) -> dict[str, float]:
    """FVU (overall and per token kind), L0 and dead share of one batch."""
    numbers = {
        "fvu": (done.error.pow(2).sum() / variance(x)).item(),
        "l0": (done.latents.values > 0).sum(-1).float().mean().item(),
        "dead": trainer.dead.float().mean().item(),
    }
    for kind in torch.unique(kinds).tolist():
        of_kind = (kinds == kind).to(x.device)
        fvu = done.error[of_kind].pow(2).sum() / variance(x[of_kind])
        numbers[f"fvu_{TokenKind(kind).name.lower()}"] = fvu.item()
    return numbers
