"""The TopK sparse autoencoder of the paper (Gao et al. 2024, arXiv:2406.04093)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .family import TopKFamily
from .sae import Latents, TrainedSae
from .select import largest

__all__ = ["Latents", "TopK", "TrainedSae"]


@dataclass(frozen=True, eq=False)
class TopK(TopKFamily):
    """z = TopK(ReLU(W_enc (x - b_dec) + b_enc)): at most k latents a token.

    Ties at the k-th place break as `largest` breaks them: any of the tied latents, the same one
    each time on one machine.
    """

    architecture = "topk"

    def choose(self, pre: Tensor) -> Latents:
        values, indices = largest(pre, self.k, sort=True)
        return Latents(indices, values.relu())

    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        # MultiTopK tells the first k from the others, so with more than k the order matters.
        found = [largest(pre, k, sort=k > self.k) for pre in parts]
        values, indices = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        return Latents(indices, values.relu_())
