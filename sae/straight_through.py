"""Training by autograd, dense in `(tokens, n_latents)`: for architectures whose loss is not a
reconstruction alone.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .sae import packed
from .trainer import AnySAE, Forward, Gradients, Trainer, variance


class Objective(NamedTuple):
    """What a batch says of an SAE."""

    loss: Tensor
    dense: Tensor
    """`(tokens, n_latents)`: 0 where silent."""
    error: Tensor
    """`(tokens, d_model)`: reconstruction minus x."""


class AutogradTrainer(Trainer[AnySAE]):
    """A trainer that is given its loss."""

    @abstractmethod
    def objective(self, sae: AnySAE, x: Tensor, total: Tensor) -> Objective:
        """Of x `(tokens, d_model)`, differentiable for `sae.learned`; `total` is its variance."""

    def gradients(self, x: Tensor) -> tuple[Forward, Gradients]:
        with torch.enable_grad():
            named = self.sae.named_tensors.items()
            leaves: dict[str, Any] = {
                name: t.detach().clone().requires_grad_() for name, t in named
            }
            found = self.objective(replace(self.sae, **leaves), x, variance(x))
            grads = torch.autograd.grad(found.loss, [*leaves.values()])
        W_enc, b_enc, W_dec, b_dec, *others = grads
        named_grads = Gradients(found.loss.detach(), W_enc, b_enc, W_dec, b_dec, tuple(others))
        return Forward(packed(found.dense), found.error), named_grads
