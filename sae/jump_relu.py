"""JumpReLU (Rajamanoharan et al. 2024, arXiv:2407.14435): each latent has its own threshold.

Trained by autograd, since its loss counts latents. The count and the jump have no derivative for
the threshold; the paper's straight-through estimators stand in, with a rectangle as kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .distributed import Ranks
from .straight_through import Batch, Objective, Penalised, PenaltyTrainer
from .trainer import Forward, Gradients


@dataclass(frozen=True, eq=False)
class JumpReLU(Penalised):
    """A latent fires, with its whole pre-activation, where that exceeds its threshold.

    At the threshold a latent is silent.
    """

    threshold: Tensor
    """`(n_latents,)`, never negative; 0 before training."""

    architecture = "jump_relu"

    @classmethod
    def _at_start(cls, rows: Tensor) -> dict[str, Any]:
        return {"threshold": rows.new_zeros(len(rows))}

    def _at_scale(self, scale: float) -> dict[str, Tensor]:
        return {"threshold": self.threshold * scale}

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """Without the threshold: what is learned is its logarithm."""
        return self.W_enc, self.b_enc, self.W_dec, self.b_dec

    def strengths(self, pre: Tensor) -> Tensor:
        return torch.where(pre > self.threshold, pre, 0.0)


class JumpReLUTrainer(PenaltyTrainer[JumpReLU]):
    """Loss: FVU + penalty * (L0 / k - 1)^2, the paper's appendix on a wanted sparsity.

    Two things are relative to the data, whose scale is not known here: the kernel's width, a share
    of the threshold, and the start: thresholds at which the first batch has the wanted L0.
    """

    usual_penalty = 1.0
    width = 0.1

    def __init__(
        self, sae: JumpReLU, lr: float, dead_after: int, penalty: float | None = None
    ) -> None:
        super().__init__(sae, lr, dead_after, penalty)
        self._log_threshold = sae.threshold.log()
        self.parameters = (*sae.learned, self._log_threshold)
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr, fused=True)

    @property
    def hidden(self) -> Mapping[str, Tensor]:
        return {"log_threshold": self._log_threshold}

    def objective(self, sae: JumpReLU, x: Tensor, batch: Batch) -> Objective:
        pre = sae.pre_activations(x)
        width = self.width * sae.threshold.detach()
        near = ((pre - sae.threshold).abs() <= width / 2) / width
        # 0, with the derivative 1: what it is multiplied by is the estimator for the threshold.
        moved = sae.threshold - sae.threshold.detach()
        fires = pre > sae.threshold
        values = torch.where(fires, pre, 0.0) - (sae.threshold * near).detach() * moved
        error = values @ sae.W_dec + sae.b_dec - x
        off = batch.l0_of(fires) / sae.k - 1
        count = (near.detach() * moved).sum() / batch.n_tokens
        missed = len(x) / batch.n_tokens * off.pow(2) - 2 * off / sae.k * count
        loss = error.pow(2).sum() / batch.variance + self.penalty * missed
        return Objective(loss, values.detach(), error.detach())

    def gradients(self, x: Tensor) -> tuple[Forward, Gradients]:
        done, grads = super().gradients(x)
        grads.others[0].mul_(self.sae.threshold)  # now of its logarithm
        return done, grads

    @torch.no_grad()
    def update(self, grads: Sequence[Tensor], lr: float) -> None:
        super().update(grads, lr)
        self.sae.threshold.copy_(self._log_threshold.exp())

    @torch.no_grad()
    def begin(self, pieces: Sequence[Tensor], n_tokens: int, ranks: Ranks) -> None:
        """Before the first step: thresholds at which the batch has the wanted L0."""
        if not self.sae.threshold.any():
            self.sae.threshold.copy_(self.evenly(pieces, n_tokens, ranks))
            self._log_threshold.copy_(self.sae.threshold.log())
