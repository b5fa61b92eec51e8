"""What each latent adds to an answer, to first order: one forward and backward for all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .lmm import LMM, Batch, Hookpoint, TokenKind
from .residual import yes_no
from .sae import SAE
from .sparse import row_dots
from .tokens import token_mask


@dataclass(frozen=True)
class Attribution:
    """A = z * (W_dec . g), g the gradient of logit(yes) - logit(no) at the clean point. Positive
    supports yes.

    At every token sum_k values + error + bias = g . x. Where no SAE edits (padding, BOS) all of it
    is error.
    """

    indices: Tensor
    """`(batch, tokens, k)` int32 latents."""
    values: Tensor
    """`(batch, tokens, k)`."""
    error: Tensor
    """`(batch, tokens)`: what the SAE does not explain."""
    bias: Tensor
    """`(batch, tokens)`: b_dec's part."""
    metric: Tensor
    """`(batch,)`: logit(yes) - logit(no)."""
    kinds: Tensor
    """`(batch, tokens)` of TokenKind."""
    n_latents: int

    def per_latent(self, kinds: Collection[TokenKind] | None = None) -> Tensor:
        """Summed over tokens (of the given kinds): `(batch, n_latents)`."""
        values = self.values
        if kinds is not None:
            values = values * torch.isin(self.kinds, self.kinds.new_tensor(list(kinds)))[..., None]
        dense = values.new_zeros(len(values), self.n_latents)
        return dense.scatter_add_(1, self.indices.flatten(1).long(), values.flatten(1))


def attribute(lmm: LMM, batch: Batch, hookpoint: Hookpoint, sae: SAE) -> Attribution:
    """Attribute the yes/no answer of each prompt to the latents of `sae` at `hookpoint`."""
    leaf: list[Tensor] = []

    def start_here(x: Tensor, batch: Batch) -> Tensor:
        leaf.append(x.detach().requires_grad_())
        return leaf[0]

    with torch.enable_grad():
        metric = yes_no(lmm, batch, {hookpoint: start_here})
        gradient = torch.autograd.grad(metric.sum(), leaf[0])[0].to(sae.W_dec.dtype)
    return _explain(sae, leaf[0].detach().to(sae.W_dec.dtype), gradient, batch, metric.detach())


@torch.no_grad()
def _explain(sae: SAE, x: Tensor, gradient: Tensor, batch: Batch, metric: Tensor) -> Attribution:
    inside = token_mask(batch.kinds, "all").to(x.device)
    latents = sae.encode(x)
    values = latents.values * row_dots(sae.W_dec, latents.indices, gradient) * inside[..., None]
    bias = (gradient @ sae.b_dec) * inside
    error = (gradient * x).sum(-1) - values.sum(-1) - bias
    error = torch.where(batch.kinds.to(x.device) == TokenKind.PAD, 0.0, error)
    return Attribution(latents.indices, values, error, bias, metric, batch.kinds, sae.n_latents)
