"""The TopK sparse autoencoder of the paper (Gao et al. 2024, arXiv:2406.04093)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .sae import SAE, Latents, TrainedSae

__all__ = ["Latents", "TopK", "TrainedSae"]


@dataclass(frozen=True, eq=False)
class TopK(SAE):
    """z = TopK(ReLU(W_enc (x - b_dec) + b_enc)): at most k latents a token.

    Ties at the k-th place break as `torch.topk` breaks them: any of the tied latents, the same one
    each time on one device.
    """

    architecture = "topk"

    def choose(self, pre: Tensor) -> Latents:
        values, indices = pre.topk(self.k, sorted=True)
        return Latents(indices, values.relu())
