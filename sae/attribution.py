"""What each latent adds to an answer, to first order: one forward and backward for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .encoding import encode_at
from .lmm import LMM, Batch, Hook, Hookpoint, TokenKind
from .residual import yes_no
from .sae import SAE
from .sparse import row_dots
from .tokens import token_mask


@dataclass(frozen=True)
class Attribution:
    """A = z * (W_dec . g), with g the gradient of m = logit(yes) - logit(no) at the clean point.
    Positive supports yes.

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
    """`(batch,)`: m."""
    kinds: Tensor
    """`(batch, tokens)` of TokenKind."""
    n_latents: int
    gradients: Tensor
    """`(batch, tokens, k)`: W_dec . g of each latent that fires, which `values` is z times."""

    def per_latent(self, kinds: Collection[TokenKind] | None = None) -> Tensor:
        """Summed over tokens (of the given kinds): `(batch, n_latents)`."""
        values = self.values
        if kinds is not None:
            values = values * torch.isin(self.kinds, self.kinds.new_tensor(list(kinds)))[..., None]
        return self.summed(values)

    def summed(self, values: Tensor) -> Tensor:
        """Anything of the shape of `values`, summed over tokens: `(batch, n_latents)`."""
        dense = values.new_zeros(len(values), self.n_latents)
        return dense.scatter_add_(1, self.indices.flatten(1).long(), values.flatten(1))


def attribute(
    lmm: LMM,
    batch: Batch,
    hookpoint: Hookpoint,
    sae: SAE,
    words: tuple[str, str] = ("yes", "no"),
) -> Attribution:
    """Attribute the answer to each prompt to the latents of `sae` at `hookpoint`.

    The answer is logit(words[0]) - logit(words[1]). Raises `ValueError` for a word that isn't one
    entry of the vocabulary.
    """
    return attribute_layers(lmm, batch, {hookpoint: sae}, words)[hookpoint]


def attribute_layers(
    lmm: LMM, batch: Batch, saes: Mapping[Hookpoint, SAE], words: tuple[str, str] = ("yes", "no")
) -> dict[Hookpoint, Attribution]:
    """`attribute` at several hookpoints, still from one forward and one backward.

    Each layer is told the whole effect of its latents, also what goes through the later layers.
    """
    streams: dict[Hookpoint, Tensor] = {}
    first = min(saes, key=lambda hookpoint: hookpoint.index)

    def watch(hookpoint: Hookpoint) -> Hook:
        def hook(x: Tensor, batch: Batch) -> Tensor:
            streams[hookpoint] = x.detach().requires_grad_() if hookpoint == first else x
            return streams[hookpoint]

        return hook

    with torch.enable_grad():
        metric = yes_no(lmm, batch, {hookpoint: watch(hookpoint) for hookpoint in saes}, words)
        found = torch.autograd.grad(metric.sum(), [streams[hookpoint] for hookpoint in saes])
    gradients = dict(zip(saes, found, strict=True))
    return {
        hookpoint: explained(sae, streams[hookpoint], gradients[hookpoint], batch, metric.detach())
        for hookpoint, sae in saes.items()
    }


@torch.no_grad()
def explained(
    sae: SAE, stream: Tensor, gradient: Tensor, batch: Batch, metric: Tensor
) -> Attribution:
    """What g . x is made of: latents, error and bias at every token. `stream` and `gradient` are
    `(batch, tokens, d_model)`.
    """
    x, gradient = (tensor.detach().to(sae.W_dec) for tensor in (stream, gradient))
    inside = token_mask(batch.kinds, "all").to(x.device)
    latents = encode_at(sae, x, inside)
    slopes = row_dots(sae.W_dec, latents.indices, gradient)
    # A slot that is not used may hold any index.
    slopes = torch.where(latents.values != 0, slopes, 0.0)
    values = latents.values * slopes
    bias = (gradient @ sae.b_dec) * inside
    error = (gradient * x).sum(-1) - values.sum(-1) - bias
    error = torch.where(batch.kinds.to(x.device) == TokenKind.PAD, 0.0, error)
    return Attribution(
        latents.indices, values, error, bias, metric, batch.kinds, sae.n_latents, slopes
    )
