"""SAEs whose L0 comes of a penalty, and their training: by autograd, since the loss is not a
reconstruction alone. Dense in `(tokens, n_latents)`, but never for many tokens at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from .distributed import ALONE, Ranks
from .sae import SAE, Latents, joined, packed
from .trainer import Forward, Gradients, Trainer, Whole, variance


@dataclass(frozen=True, eq=False)
class Penalised(SAE):
    """An SAE of which as many latents fire on a token as like to: a penalty keeps them few.

    `k` is the L0 that training aimed at; 0 where nobody knows, as in checkpoints of others.
    """

    free_l0: ClassVar[bool] = True

    @abstractmethod
    def strengths(self, pre: Tensor) -> Tensor:
        """Pre-activations `(tokens, n_latents)` to latents of the same shape, 0 where silent."""

    def choose(self, pre: Tensor) -> Latents:
        return packed(self.strengths(pre))


PenalisedSAE = TypeVar("PenalisedSAE", bound=Penalised)


@dataclass(frozen=True)
class Batch(Whole):
    """A batch, as the loss of some of its tokens must know it."""

    l0: Tensor | None = None
    """`()`: latents a token; None where the tokens at hand are the whole batch."""

    def l0_of(self, fires: Tensor) -> Tensor:
        """`()`; `fires` are the latents of the tokens at hand."""
        return fires.sum() / self.n_tokens if self.l0 is None else self.l0


class Objective(NamedTuple):
    """What some tokens say of an SAE."""

    loss: Tensor
    """Their part of it: the losses of all tokens add up to the batch's."""
    dense: Tensor
    """`(tokens, n_latents)`: 0 where silent."""
    error: Tensor
    """`(tokens, d_model)`: reconstruction minus x."""


class PenaltyTrainer(Trainer[PenalisedSAE]):
    """A trainer that is given its loss."""

    usual_penalty: ClassVar[float]

    def __init__(
        self, sae: PenalisedSAE, lr: float, dead_after: int, penalty: float | None = None
    ) -> None:
        """`penalty`: what L0 counts beside FVU; None for the usual. Raises `ValueError` for an SAE
        without a k.
        """
        if sae.k < 1:
            raise ValueError("training needs an L0 to aim at, and this SAE's k is not known")
        super().__init__(sae, lr, dead_after)
        self.penalty = self.usual_penalty if penalty is None else penalty
        self._surveyed: Batch | None = None

    @abstractmethod
    def objective(self, sae: PenalisedSAE, x: Tensor, batch: Batch) -> Objective:
        """Of x `(tokens, d_model)`, some or all of `batch`; differentiable for `sae.tensors`."""

    def begin(self, pieces: Sequence[Tensor], n_tokens: int, ranks: Ranks) -> None:
        """Before each batch: what must fit the data at the start. Here nothing."""

    @torch.no_grad()
    def survey(self, pieces: Sequence[Tensor], whole: Whole, ranks: Ranks) -> None:
        self.begin(pieces, whole.n_tokens, ranks)
        fired = ranks.sum_(self._fired(pieces))
        self._surveyed = Batch(whole.variance, whole.n_tokens, fired / whole.n_tokens)

    def evenly(self, pieces: Sequence[Tensor], n_tokens: int, ranks: Ranks) -> Tensor:
        """`(n_latents,)`: of each latent the pre-activation, above 0, from which on it fires as
        often as any other, and all together k on a token of the batch.
        """
        sae = self.sae
        often = max(1, n_tokens * sae.k // sae.n_latents)
        top = sae.W_enc.new_full((often, sae.n_latents), -torch.inf)
        size = sae.W_enc.new_zeros(())
        for piece in pieces:
            for pre in sae.dense_parts(piece):
                top = torch.cat([top, pre]).topk(often, dim=0).values
                size = torch.maximum(size, pre.abs().max())
        smallest = torch.cat(ranks.gather(top)).topk(often, dim=0).values[-1]
        return smallest.clamp_min(1e-6 * float(torch.stack(ranks.gather(size)).max()))

    def _fired(self, pieces: Sequence[Tensor]) -> Tensor:
        """`()`: how many latents fire on all tokens together."""
        sae = self.sae
        count = torch.zeros((), dtype=torch.int64, device=sae.W_enc.device)
        for piece in pieces:
            for pre in sae.dense_parts(piece):
                count += (sae.strengths(pre) > 0).sum()
        return count

    def share(self, x: Tensor, whole: Whole) -> Tensor:
        """The loss is relative to the whole batch already."""
        return x.new_ones(())

    def gradients(self, x: Tensor) -> tuple[Forward, Gradients]:
        """As in `Trainer`: of x as a piece of the batch surveyed, or without a survey as all."""
        batch = self._surveyed or self._alone(x)
        parts = torch.split(x, self.sae.tokens_at_a_time)
        found = [self._of_part(part, batch) for part in parts]
        latents = joined([done.latents for done, _ in found])
        error = torch.cat([done.error for done, _ in found])
        return Forward(latents, error), _added([grads for _, grads in found])

    def _alone(self, x: Tensor) -> Batch:
        self.begin([x], len(x), ALONE)
        at_once = len(x) <= self.sae.tokens_at_a_time
        return Batch(variance(x), len(x), None if at_once else self._fired([x]) / len(x))

    def _of_part(self, x: Tensor, batch: Batch) -> tuple[Forward, Gradients]:
        with torch.enable_grad():
            named = self.sae.named_tensors.items()
            leaves: dict[str, Any] = {
                name: t.detach().clone().requires_grad_() for name, t in named
            }
            found = self.objective(replace(self.sae, **leaves), x, batch)
            W_enc, b_enc, W_dec, b_dec, *others = torch.autograd.grad(
                found.loss, [*leaves.values()]
            )
        grads = Gradients(found.loss.detach(), W_enc, b_enc, W_dec, b_dec, tuple(others))
        return Forward(packed(found.dense), found.error), grads

    def update(self, grads: Sequence[Tensor], lr: float) -> None:
        super().update(grads, lr)
        self._surveyed = None


def _added(parts: Sequence[Gradients]) -> Gradients:
    first, *others = parts
    if not others:
        return first
    loss = torch.stack([part.loss for part in parts]).sum()
    sums = list(first.of_parameters())
    for part in others:
        for added, grad in zip(sums, part.of_parameters(), strict=True):
            added.add_(grad)
    W_enc, b_enc, W_dec, b_dec, *own = sums
    return Gradients(loss, W_enc, b_enc, W_dec, b_dec, tuple(own))
