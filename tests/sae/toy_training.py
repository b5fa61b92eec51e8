"""A toy LMM, and a command line around `train`: for tests that kill it or start it twice.

toy_training.py OUT [--architecture A] [--every N] [--kill-at STEP] [--kill-in step|write]
                [--pause SECONDS]
torchrun toy_training.py OUT --ranks
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lmmsae_eval.sae import files
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.distributed import ALONE, Ranks, joined
from lmmsae_eval.sae.learner import Learner, new_learner
from lmmsae_eval.sae.lmm import Batch, Hook, Hookpoint, Prompt, TokenKind, resolve_hookpoint
from lmmsae_eval.sae.recipe import Recipe
from lmmsae_eval.sae.shard import whole
from lmmsae_eval.sae.step import AuxK
from lmmsae_eval.sae.train import train
from lmmsae_eval.sae.trainer import Trainer
from torch import Tensor

D, TOKENS, LAYERS = 12, 40, 3
PROMPTS = [Prompt(str(seed)) for seed in range(300)]
SMALL: dict[str, Any] = {"n_latents": 24, "k": 3, "steps": 30, "batch_tokens": 160, "data": "toy"}


class ToyLMM:
    """A prompt's text seeds its residual stream; rows are of different lengths, as with images of
    different sizes.
    """

    name = identity = "toy"
    n_layers = LAYERS
    d_model = D

    def __init__(self) -> None:
        self.forwards = 0

    def hookpoint(self, ref: str | int) -> Hookpoint:
        return resolve_hookpoint(ref, [f"blocks.{i}" for i in range(LAYERS)], self.name)

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        rows = [self._stream(int(prompt.text)) for prompt in prompts]
        kinds = torch.full((len(rows), TOKENS), TokenKind.TEXT, dtype=torch.int8)
        kinds[:, : TOKENS // 2] = TokenKind.IMAGE
        for row, prompt in zip(kinds, prompts, strict=True):
            row[: int(prompt.text) % 7] = TokenKind.PAD
        return Batch({"x": torch.stack(rows)}, kinds, [torch.zeros(0, 4)] * len(rows))

    def _stream(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(TOKENS, D, generator=generator).relu()

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        self.forwards += 1
        for hookpoint, hook in (hooks or {}).items():
            hook(batch.inputs["x"] * (1 + hookpoint.index), batch)
        return None


def toy_train(out: Path, ranks: Ranks = ALONE, **change: Any) -> list[Path]:
    lmm = ToyLMM()
    hookpoints = [lmm.hookpoint(layer) for layer in (1, 2, 3)]
    return train(lmm, PROMPTS, hookpoints, out=out, ranks=ranks, **(SMALL | change))


def _kill_in_step(at: int) -> None:
    original, steps = Trainer.step, 0

    def step(self: Trainer[Any], x: Tensor, lr: float) -> Any:
        nonlocal steps
        steps += 1
        if steps > at * LAYERS:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, x, lr)

    Trainer.step = step


def _kill_in_write(at: int) -> None:
    """With half of the file of the checkpoint after `at` steps on disk."""
    original = files.write_tensors

    def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
        if path.name.startswith(f"{at:08d}"):
            original(path.with_suffix(".whole"), tensors, header)
            half = path.with_suffix(".whole").read_bytes()
            path.with_name(f".{path.name}.partial").write_bytes(half[: len(half) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        original(path, tensors, header)

    from lmmsae_eval.sae import checkpoint

    checkpoint.write_tensors = write


def global_batch(step: int) -> list[Tensor]:
    """Two ragged parts in double precision; now and then one rank has nothing."""
    generator = torch.Generator().manual_seed(step)
    sizes = [(37, 50), (64, 0), (1, 80)][step % 3]
    return [3 + torch.randn(n, D, generator=generator, dtype=torch.float64) for n in sizes]


def double_learner(ranks: Ranks, shards: Ranks = ALONE, **change: Any) -> Learner:
    settings: dict[str, Any] = {"n_latents": 32, "k": 3, "lr": 1e-2, "dead_after": 200}
    recipe = Recipe(**(settings | change))
    return new_learner(recipe, torch.full((D,), 3.0, dtype=torch.float64), ranks, shards)


def double_steps(learner: Learner, parts_of: Any, steps: int = 20) -> list[Tensor]:
    for step in range(steps):
        x = parts_of(step)
        learner.step(x, torch.full((len(x),), TokenKind.TEXT, dtype=torch.int8), 1e-2)
    return list(learner.trainer.sae.tensors)


_IN_PIECES: dict[str, Any] = {"accumulate": 3, "clip": 1e-2}
_NESTED: dict[str, Any] = {"architecture": "matryoshka", "prefixes": (4, 20, 32)}
SHARDED: dict[str, dict[str, Any]] = {
    "plain": {},
    "pieces": _IN_PIECES,
    "without auxk": {"auxk_alpha": 0.0},
    "k is a shard": {"k": 16},
    "dead on one rank": {"dead_after": 50},
    "dead on both": {"dead_after": 50},
    "batch": {"architecture": "batch_topk", "dead_after": 10**6},
    "batch in pieces": {"architecture": "batch_topk", "dead_after": 10**6} | _IN_PIECES,
    "batch, dead on one rank": {"architecture": "batch_topk", "dead_after": 50},
    "nested": _NESTED | {"dead_after": 10**6},
    "nested in pieces": _NESTED | _IN_PIECES | {"dead_after": 50},
}
"""Recipes that shards are to learn as one process does."""
DEAD = {
    "dead on one rank": [1, 2, 3, 8, 9],
    "dead on both": [0, 17, 20, 21, 22, 30],
    "batch, dead on one rank": [1, 2, 3, 8, 9],
    "nested in pieces": [0, 17, 20, 21, 22, 30],
}
"""Latents that begin with their ReLU shut."""


def sharded_steps(name: str, shards: Ranks) -> tuple[list[Tensor], dict[str, float]]:
    """The weights after 20 steps, and what is measured in one more."""
    learner = double_learner(ALONE, shards, **SHARDED[name])
    if name in DEAD:
        bias = learner.trainer.sae.b_enc
        mine = [i - shards.rank * len(bias) for i in DEAD[name]]
        bias[[i for i in mine if 0 <= i < len(bias)]] = -9.0
        learner.trainer.auxk = AuxK(0.5, 4)
    double_steps(learner, lambda step: torch.cat(global_batch(step)))
    x = torch.cat(global_batch(20))
    kinds = torch.full((len(x),), TokenKind.TEXT, dtype=torch.int8)
    measured = learner.measure(x, kinds, learner.step(x, kinds, 0.0))
    sae = whole(learner.trainer.sae)
    assert sae.architecture == SHARDED[name].get("architecture", "topk")
    return list(sae.tensors), measured


def _stopped_then_on(out: Path, ranks: Ranks) -> None:
    """Latents shared out, stopped in a step on every rank at once, and gone on with."""
    original, steps = Trainer.step, 0

    def step(self: Trainer[Any], x: Tensor, lr: float) -> Any:
        nonlocal steps
        steps += 1
        if steps > 17 * LAYERS:
            raise KeyboardInterrupt
        return original(self, x, lr)

    Trainer.step = step
    try:
        toy_train(out, ranks, distribute="latents", checkpoint_every=5)
    except KeyboardInterrupt:
        assert list((out / "checkpoint").glob("*rank1-of-2*"))
    Trainer.step = original
    toy_train(out, ranks, distribute="latents", checkpoint_every=5)


def _as_ranks(out: Path) -> None:
    """What test_distributed.py looks at."""
    with joined() as ranks:
        for name in ARCHITECTURES:
            learner = double_learner(ranks, architecture=name)
            learned = double_steps(learner, lambda step: global_batch(step)[ranks.rank])
            torch.save(learned, out / f"{name}{ranks.rank}.pt")
        few = PROMPTS[:3]  # one forward: the second rank never has a token
        lmm = ToyLMM()
        train(lmm, few, [lmm.hookpoint(1)], out=out / "few", ranks=ranks, **SMALL | {"steps": 3})
        toy_train(out / "data", ranks)
        toy_train(out / "layers", ranks, distribute="layers")
        toy_train(out / "cached", ranks, distribute="layers", cache=out / "cache")
        for name in SHARDED:
            learned = sharded_steps(name, ranks)
            torch.save(learned, out / f"shard {name}{ranks.rank}.pt")
        toy_train(out / "latents", ranks, distribute="latents")
        toy_train(out / "cached latents", ranks, distribute="latents", cache=out / "cache")
        _stopped_then_on(out / "stopped", ranks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--architecture", default="topk")
    parser.add_argument("--every", type=int)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--kill-in", choices=["step", "write"], default="step")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--ranks", action="store_true")
    asked = parser.parse_args()
    if asked.ranks:
        _as_ranks(asked.out)
        return
    if asked.kill_at >= 0:
        {"step": _kill_in_step, "write": _kill_in_write}[asked.kill_in](asked.kill_at)
    if asked.pause:
        original = Trainer.step

        def slow(self: Trainer[Any], x: Tensor, lr: float) -> Any:
            time.sleep(asked.pause)
            return original(self, x, lr)

        Trainer.step = slow
    toy_train(asked.out, checkpoint_every=asked.every, architecture=asked.architecture)


if __name__ == "__main__":
    main()
