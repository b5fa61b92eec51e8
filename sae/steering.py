"""Hooks that write the residual stream through an SAE. Padding and BOS are never edited
(`tokens.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .lmm import Batch, Hook
from .sae import SAE, Latents
from .tokens import TokenSet, token_mask


def reconstruct(sae: SAE, error: bool) -> Hook:
    """x := dec(enc(x)); with `error`, x := dec(z) + (x - dec(z)), which changes nothing."""

    def hook(x: Tensor, batch: Batch) -> Tensor:
        decoded = sae.reconstruct(x).to(x.dtype)
        new = decoded + (x - decoded) if error else decoded
        return torch.where(_edited(batch, "all", x), new, x)

    return hook


@dataclass(frozen=True)
class Edit:
    """A change of some latents: a hook that also tells its two parts apart.

    `latents` are `(batch, m)` or `(m,)`, distinct within a row, -1 for none. `change` says how far
    each goes: it takes the latents' present values `(batch, tokens, m)` and returns what is added
    to them. Error-preserving: x' = x + dec(z') - dec(z). Otherwise x' = dec(z') (as the paper does
    it): the reconstruction replaces x at every token, the latents change at the chosen `tokens`.
    """

    sae: SAE
    latents: Tensor
    change: Callable[[Tensor], Tensor]
    error_preserving: bool = True
    tokens: TokenSet = "all"

    def __call__(self, x: Tensor, batch: Batch) -> Tensor:
        return self.base(x, batch) + self.delta(x, batch)

    def base(self, x: Tensor, batch: Batch) -> Tensor:
        """What the stream would be without the change: x itself, or its reconstruction."""
        return x if self.error_preserving else reconstruct(self.sae, error=False)(x, batch)

    def delta(self, x: Tensor, batch: Batch) -> Tensor:
        """dec(z') - dec(z), 0 at tokens that are not edited: `(batch, tokens, d_model)`."""
        latents = self.latents.to(x.device).expand(x.shape[0], -1)
        change = self.change(present_values(self.sae.encode(x), latents))
        change = torch.where((latents >= 0)[:, None], change, 0.0)
        moved = (change @ self.sae.W_dec[latents.clamp_min(0)]).to(x.dtype)
        return torch.where(_edited(batch, self.tokens, x), moved, 0.0)


def steer(
    sae: SAE,
    latents: Tensor,
    scale: float | Tensor,
    error_preserving: bool = True,
    tokens: TokenSet = "all",
) -> Edit:
    """z' = scale * z on `latents`: 0 ablates, 1 changes nothing, -1 flips.

    A tensor `scale` is `(batch, m)`, `(batch, 1)` or `(m,)`.
    """
    factor = scale[..., None, :] if isinstance(scale, Tensor) else scale
    return Edit(sae, latents, lambda values: (factor - 1) * values, error_preserving, tokens)


def clamp(
    sae: SAE,
    latents: Tensor,
    value: float | Tensor,
    error_preserving: bool = True,
    tokens: TokenSet = "all",
) -> Edit:
    """z' = value on `latents`, added where they were silent; no other latent gives way for it."""
    level = value[..., None, :] if isinstance(value, Tensor) else value
    return Edit(sae, latents, lambda values: level - values, error_preserving, tokens)


def matched_direction(sae: SAE, real: Edit, latents: Tensor) -> Hook:
    """The control of `real`: away from other latents, exactly as far.

    At each token the stream moves along minus the sum of the decoder rows of `latents`, by the norm
    of what `real` adds there beyond its base. A row of only -1 is left at the base.
    """
    known = (latents >= 0)[..., None]
    rows = torch.where(known, sae.W_dec[latents.clamp_min(0)], 0.0).sum(-2)
    direction = -normalize(rows, dim=-1)

    def hook(x: Tensor, batch: Batch) -> Tensor:
        distance = torch.linalg.vector_norm(real.delta(x, batch), dim=-1, keepdim=True)
        away = direction.expand(x.shape[0], -1)[:, None].to(x)
        controlled: Tensor = real.base(x, batch) + distance * away
        return controlled

    return hook


def present_values(latents: Latents, wanted: Tensor) -> Tensor:
    """The values `(batch, tokens, m)` of the `wanted` latents `(batch, m)`, 0 where silent."""
    same = latents.indices[..., None] == wanted[:, None, None, :]
    return (same * latents.values[..., None]).sum(-2)


def _edited(batch: Batch, tokens: TokenSet, x: Tensor) -> Tensor:
    return token_mask(batch.kinds, tokens).to(x.device)[..., None]
