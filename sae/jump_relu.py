"""JumpReLU (Rajamanoharan et al. 2024, arXiv:2407.14435): each latent has its own threshold.

Trained by autograd, since its loss counts latents. The count and the jump have no derivative for
the threshold; the paper's straight-through estimators stand in, with a rectangle as kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .sae import SAE, Latents, packed
from .straight_through import AutogradTrainer, Objective


@dataclass(frozen=True, eq=False)
class JumpReLU(SAE):
    """A latent fires, with its whole pre-activation, where that exceeds its threshold.

    `k` is the L0 that training aims at. At the threshold a latent is silent.
    """

    log_threshold: Tensor
    """`(n_latents,)`; -inf, a threshold of 0, before training."""

    architecture = "jump_relu"

    @property
    def threshold(self) -> Tensor:
        """`(n_latents,)`."""
        return self.log_threshold.exp()

    @classmethod
    def _at_start(cls, rows: Tensor) -> dict[str, Any]:
        return {"log_threshold": rows.new_full((len(rows),), -torch.inf)}

    def _at_scale(self, scale: float) -> dict[str, Tensor]:
        return {"log_threshold": self.log_threshold + math.log(scale)}

    def choose(self, pre: Tensor) -> Latents:
        return packed(torch.where(pre > self.threshold, pre, 0.0))


class JumpReLUTrainer(AutogradTrainer[JumpReLU]):
    """Loss: FVU + (L0 / k - 1)^2, the paper's appendix on a wanted sparsity.

    Two things are relative to the data, whose scale is not known here: the kernel's width, a share
    of the threshold, and the start: thresholds at which the first batch has the wanted L0.
    """

    width = 0.1

    def objective(self, sae: JumpReLU, x: Tensor, total: Tensor) -> Objective:
        pre = sae.pre_activations(x)
        if bool((sae.log_threshold == -torch.inf).all()):
            self._begin(sae, pre.detach())
        threshold = sae.threshold
        width = self.width * threshold.detach()
        near = ((pre - threshold).abs() <= width / 2) / width
        # 0, with the derivative 1: what it is multiplied by is the estimator for the threshold.
        moved = threshold - threshold.detach()
        fires = pre > threshold
        values = torch.where(fires, pre, 0.0) - (threshold * near).detach() * moved
        error = values @ sae.W_dec + sae.b_dec - x
        l0 = (fires.sum() - (near.detach() * moved).sum()) / len(x)
        loss = error.pow(2).sum() / total + (l0 / sae.k - 1).pow(2)
        return Objective(loss, values.detach(), error.detach())

    @torch.no_grad()
    def _begin(self, sae: JumpReLU, pre: Tensor) -> None:
        """Each latent fires as often as any other."""
        often = max(1, len(pre) * sae.k // sae.n_latents)
        smallest = pre.topk(often, dim=0, sorted=True).values[-1]
        sae.log_threshold.copy_(smallest.clamp_min(1e-6 * float(pre.abs().max())).log())
        self.sae.log_threshold.copy_(sae.log_threshold)
