"""Some tokens of a residual stream through an SAE. The others are never encoded: on BOS, whose norm
is far off that of every other token, an SAE with thresholds may fire thousands of latents.
"""

from __future__ import annotations

from torch import Tensor

from .sae import SAE, Latents


def encode_at(sae: SAE, x: Tensor, inside: Tensor) -> Latents:
    """Latents `(batch, tokens, slots)` of x `(batch, tokens, d_model)` where `inside`
    `(batch, tokens)` is true; elsewhere no slot is used. Raises `UsageError` as `SAE.encode` does.
    """
    inside = inside.to(x.device)
    found = sae.encode(x[inside])
    sae.refuse_too_many(inside.numel(), found.values.shape[-1])
    shape = (*inside.shape, found.values.shape[-1])
    indices, values = found.indices.new_zeros(shape), found.values.new_zeros(shape)
    indices[inside], values[inside] = found
    return Latents(indices, values)


def reconstruct_at(sae: SAE, x: Tensor, inside: Tensor) -> Tensor:
    """x, and dec(enc(x)) in its place where `inside` `(batch, tokens)` is true."""
    inside = inside.to(x.device)
    new = x.clone()
    new[inside] = sae.reconstruct(x[inside]).to(x.dtype)
    return new
