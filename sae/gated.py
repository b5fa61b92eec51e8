"""Gated SAE (Rajamanoharan et al. 2024, arXiv:2404.16014): which latents fire and how strongly are
told apart, so that the penalty on the first does not shrink the second. Trained by autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .distributed import Ranks
from .straight_through import Batch, Objective, Penalised, PenaltyTrainer


@dataclass(frozen=True, eq=False)
class Gated(Penalised):
    """A latent fires where its gate W_enc (x - b_dec) + b_enc is positive, with the value
    ReLU(exp(r_mag) W_enc (x - b_dec) + b_mag).

    A latent whose gate is 0 is silent.
    """

    r_mag: Tensor
    """`(n_latents,)`."""
    b_mag: Tensor
    """`(n_latents,)`."""

    architecture = "gated"

    @classmethod
    def _at_start(cls, rows: Tensor) -> dict[str, Any]:
        return {"r_mag": rows.new_zeros(len(rows)), "b_mag": rows.new_zeros(len(rows))}

    def _at_scale(self, scale: float) -> dict[str, Tensor]:
        return {"b_mag": self.b_mag * scale}

    def strengths(self, pre: Tensor) -> Tensor:
        strength = torch.relu(self.r_mag.exp() * (pre - self.b_enc) + self.b_mag)
        return torch.where(pre > 0, strength, 0.0)


class GatedTrainer(PenaltyTrainer[Gated]):
    """Loss: FVU + FVU from the gates alone, through a frozen decoder + penalty * L1 of the gates.

    The paper fixes the penalty and takes the L0 that comes. Here it grows with the batch's L0 over
    k, so that k means nearly what it means in other recipes: L0 comes to between k and 2 k.
    """

    usual_penalty = 0.3

    @torch.no_grad()
    def begin(self, pieces: Sequence[Tensor], n_tokens: int, ranks: Ranks) -> None:
        """Before the first step: gates that are as often open as is wanted. With half of them open
        the penalty would shut all by making them small, not few.
        """
        if not self.sae.b_enc.any():
            self.sae.b_enc.copy_(-self.evenly(pieces, n_tokens, ranks))

    def objective(self, sae: Gated, x: Tensor, batch: Batch) -> Objective:
        gate = sae.pre_activations(x)
        values = sae.strengths(gate)
        error = values @ sae.W_dec + sae.b_dec - x
        opened = gate.relu()
        alone = opened @ sae.W_dec.detach() + sae.b_dec.detach() - x
        # Per token, relative to its distance from the mean: no matter of the data's scale.
        l1 = opened.sum() / (batch.variance * batch.n_tokens).sqrt()
        loss = (error.pow(2).sum() + alone.pow(2).sum()) / batch.variance
        loss = loss + self.penalty * (batch.l0_of(values > 0) / sae.k).pow(2) * l1
        return Objective(loss, values.detach(), error.detach())
