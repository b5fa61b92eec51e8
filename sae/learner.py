"""The SAE of one hookpoint in training: a step over the pieces of a batch and over ranks, which
have other tokens of the batch or other latents of the SAE.

The loss is a sum over tokens divided by the variance of the whole batch, so the gradients of its
pieces, each times its own variance over the whole one's, add up to the gradients of the whole. What
is no sum over tokens (which latents a BatchTopK lets fire, the L0 of a penalty) is found in a
survey of all pieces first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .architectures import ARCHITECTURES, trainer_for
from .distributed import ALONE, Ranks
from .measure import FIRING, N_KINDS, fired_by_kind, numbers, tally
from .recipe import PENALISED, Recipe
from .sae import SAE
from .shard import shard_of
from .step import AuxK
from .trainer import Forward, Trainer, Whole

_B_DEC = 3
"""Its place among the gradients."""


class Learner:
    """A trainer, and per token kind since how many tokens each latent is silent."""

    def __init__(
        self, trainer: Trainer[Any], recipe: Recipe, ranks: Ranks, shards: Ranks = ALONE
    ) -> None:
        """`ranks` have the other tokens, `shards` the other latents."""
        self.trainer = trainer
        self._recipe = recipe
        self._ranks = ranks
        self._shards = shards
        self._whole = ranks.world == 1 and recipe.accumulate == 1 and recipe.clip is None
        n = trainer.sae.n_latents
        self._silent_for = trainer.silent_for.new_zeros(N_KINDS, n)

    def step(self, x: Tensor, kinds: Tensor, lr: float) -> list[Forward]:
        """Learn from this rank's `(tokens, d_model)`, which may be none; the forward of each piece
        before the update.
        """
        size = max(1, -(-len(x) // self._recipe.accumulate))
        pieces = torch.split(x, size) if len(x) else ()
        if self._whole:
            done = [self.trainer.step(x, lr)]
            n_tokens = len(x)
        else:
            done, n_tokens = self._joint_step(pieces, lr)
        fired = self._fired(done, torch.split(kinds, size))
        self._silent_for += n_tokens
        self._silent_for[fired] = 0
        if not self._whole:
            self.trainer.note_fired(fired.any(0), n_tokens)
        return done

    def _joint_step(self, pieces: Sequence[Tensor], lr: float) -> tuple[list[Forward], int]:
        whole = self._whole_of(pieces)
        self.trainer.survey(pieces, whole, self._ranks)
        sums = [torch.zeros_like(parameter) for parameter in self.trainer.parameters]
        forwards: list[Forward] = []
        for x in pieces:
            done, grads = self.trainer.gradients(x)
            share = self.trainer.share(x, whole)
            for added, grad in zip(sums, grads.of_parameters(), strict=True):
                added.add_(grad.mul_(share))
            forwards.append(done)
        for added in sums:
            self._ranks.sum_(added)
        if self._recipe.clip is not None:
            _clip(sums, self._recipe.clip, self._shards)
        self.trainer.update(sums, lr)
        return forwards, whole.n_tokens

    def _whole_of(self, pieces: Sequence[Tensor]) -> Whole:
        """All pieces of all ranks together."""
        like = self.trainer.sae.b_dec
        n = sum(len(x) for x in pieces)
        mean = sum((x.sum(0) for x in pieces), torch.zeros_like(like)) / max(1, n)
        spread = sum(((x - mean).pow(2).sum() for x in pieces), like.new_zeros(()))
        found = torch.stack(
            self._ranks.gather(torch.cat([like.new_tensor([n]), spread[None], mean]))
        )
        counts, spreads, means = found[:, :1], found[:, 1], found[:, 2:]
        everyone = (counts * means).sum(0) / counts.sum()
        apart = (counts * (means - everyone).pow(2)).sum()
        total = spreads.sum() + apart
        limits = torch.finfo(like.dtype)
        squares = total + counts.sum() * everyone.pow(2).sum()
        rounding = limits.eps * squares + limits.tiny
        return Whole(torch.maximum(total, rounding), int(counts.sum()))

    def _fired(self, done: Sequence[Forward], kinds: Sequence[Tensor]) -> Tensor:
        n = self.trainer.sae.n_latents
        fired = torch.zeros_like(self._silent_for, dtype=torch.int32)
        for forward, of_piece in zip(done, kinds, strict=False):
            fired += fired_by_kind(forward.latents, of_piece, n)
        return self._ranks.sum_(fired) > 0

    def measure(self, x: Tensor, kinds: Tensor, done: Sequence[Forward]) -> dict[str, float]:
        """FVU, L0 and dead share of the whole batch and SAE. Raises `UsageError` for NaN."""
        sums = x.new_zeros(N_KINDS, 4 + self.trainer.sae.d_model, dtype=torch.float64)
        start = 0
        for forward in done:
            rows = slice(start, start + len(forward.error))
            sums += tally(x[rows], kinds[rows], forward)
            start = rows.stop
        # All shards make the same error; each knows its own latents.
        sums[:, FIRING] = self._shards.sum_(sums[:, FIRING].clone())
        silent_for = torch.cat(self._shards.gather(self._silent_for), dim=1)
        dead = torch.cat(self._shards.gather(self.trainer.silent_for)) >= self.trainer.dead_after
        found = numbers(self._ranks.sum_(sums), silent_for, dead, self.trainer.dead_after)
        if not found["fvu"] < float("inf"):
            raise UsageError("the training diverged (its error is not finite); lower --lr")
        return found

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        trainer = self.trainer
        kept = {f"sae.{i}": tensor for i, tensor in enumerate(trainer.sae.tensors)}
        kept |= {f"hidden.{name}": tensor for name, tensor in trainer.hidden.items()}
        for i, moments in trainer.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                # A copy where 8-bit Adam has one table for all: a file holds no tensor twice.
                value = torch.as_tensor(value)
                kept[f"adam.{i}.{name}"] = value.clone() if value.numel() <= 256 else value
        return kept | {"silent_for": trainer.silent_for, "silent_for_kind": self._silent_for}

    @torch.no_grad()
    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on from another learner's `state()`."""
        trainer = self.trainer
        for i, tensor in enumerate(trainer.sae.tensors):
            tensor.copy_(kept[f"sae.{i}"])
        for name, tensor in trainer.hidden.items():
            tensor.copy_(kept[f"hidden.{name}"])
        moments: dict[int, dict[str, Any]] = {}
        for key, value in kept.items():
            if key.startswith("adam."):
                _, parameter, name = key.split(".")
                count = value.dim() == 0 and not value.is_floating_point()
                moments.setdefault(int(parameter), {})[name] = int(value) if count else value
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        trainer.silent_for.copy_(kept["silent_for"])
        self._silent_for.copy_(kept["silent_for_kind"])


def new_learner(recipe: Recipe, b_dec: Tensor, ranks: Ranks, shards: Ranks = ALONE) -> Learner:
    """Before the first step; `b_dec` `(d_model,)` is the centre of the data. `ranks` have the other
    tokens, `shards` the other latents.
    """
    d_model = len(b_dec)
    auxk = auxk_for(recipe, d_model)
    kind = ARCHITECTURES[recipe.architecture]
    sae: SAE = kind.random(recipe.n_latents, d_model, recipe.k, recipe.seed, b_dec)
    own: dict[str, Any] = {} if recipe.prefixes is None else {"sizes": recipe.prefixes}
    sae = replace(sae, **own)
    if shards.world > 1:
        sae = shard_of(sae, shards)
    trainer = trainer_for(sae, recipe.lr, recipe.dead_after, auxk, penalty=recipe.penalty)
    if recipe.adam == "8bit":
        trainer.optimizer = eight_bit_adam(trainer.parameters, recipe.lr)
    return Learner(trainer, recipe, ranks, shards)


def auxk_for(recipe: Recipe, d_model: int) -> AuxK | None:
    """None where the recipe has it off, and where the architecture has none."""
    if not recipe.auxk_alpha or recipe.architecture in PENALISED:
        return None
    return AuxK(recipe.auxk_alpha, max(1, d_model // 8))


def eight_bit_adam(parameters: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    """bitsandbytes' Adam. Raises `UsageError` where it is not installed."""
    try:
        from bitsandbytes.optim import Adam8bit
    except ImportError as error:
        raise UsageError(
            "8-bit Adam needs bitsandbytes; pip install bitsandbytes, or leave out --adam 8bit"
        ) from error
    optimizer: torch.optim.Optimizer = Adam8bit(parameters, lr=lr)
    return optimizer


def centre(x: Tensor, how: str, ranks: Ranks) -> Tensor:
    """`(d_model,)`: the mean or the geometric median of `(tokens, d_model)` on all ranks.

    The median is Weiszfeld's, at most 100 rounds, to 1e-5: as the published SAE was started.
    """
    if how == "mean" and ranks.world == 1:
        return x.mean(0)
    weights = x.new_ones(len(x))
    found = _weighted_mean(x, weights, ranks)
    for _ in range(100 if how == "median" else 0):
        before = found
        distance = (x - before).norm(dim=1).clamp_min(torch.finfo(x.dtype).eps)
        found = _weighted_mean(x, 1 / distance, ranks)
        if (found - before).norm() <= 1e-5 * found.norm():
            break
    return found


def _weighted_mean(x: Tensor, weights: Tensor, ranks: Ranks) -> Tensor:
    sums = ranks.sum_(torch.cat([weights @ x, weights.sum()[None]]))
    return sums[:-1] / sums[-1]


def _clip(grads: Sequence[Tensor], largest: float, shards: Ranks) -> None:
    """To a norm; all gradients but b_dec's are those of this shard's latents."""
    norms = torch.stack([grad.norm() for grad in grads])
    if shards.world > 1:
        others = norms.clone()
        others[_B_DEC] = 0
        norms = torch.stack([norms[_B_DEC], shards.sum_(others.pow(2).sum()).sqrt()])
    norm = norms.norm()
    for grad in grads:
        grad.mul_((largest / norm).clamp(max=1.0))
