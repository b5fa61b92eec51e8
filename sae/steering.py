"""Hooks that write the residual stream through an SAE. Padding and BOS are never edited
(`tokens.py`), except `as_released`, which does what the paper's code did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .encoding import encode_at, reconstruct_at
from .lmm import Batch, Hook, TokenKind
from .sae import SAE, Latents
from .tokens import Span, TokenSet, token_mask


def reconstruct(sae: SAE, error: bool) -> Hook:
    """x := dec(enc(x)); with `error`, x := dec(z) + (x - dec(z)), which changes nothing."""

    def hook(x: Tensor, batch: Batch) -> Tensor:
        inside = token_mask(batch.kinds, "all").to(x.device)
        new = reconstruct_at(sae, x, inside)
        return torch.where(inside[..., None], new + (x - new), x) if error else new

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
    tokens: TokenSet | Span = "all"

    def __call__(self, x: Tensor, batch: Batch) -> Tensor:
        return self.base(x, batch) + self.delta(x, batch)

    def base(self, x: Tensor, batch: Batch) -> Tensor:
        """What the stream would be without the change: x itself, or its reconstruction."""
        return x if self.error_preserving else reconstruct(self.sae, error=False)(x, batch)

    def delta(self, x: Tensor, batch: Batch, encoded: Latents | None = None) -> Tensor:
        """dec(z') - dec(z), 0 at tokens that are not edited: `(batch, tokens, d_model)`. `encoded`
        is the SAE's z of x, where it is known already.
        """
        return self.along(self.sae.W_dec[self._latents(x).clamp_min(0)], x, batch, encoded)

    def along(
        self, rows: Tensor, x: Tensor, batch: Batch, encoded: Latents | None = None
    ) -> Tensor:
        """`delta` with `rows` `(batch, m, d_model)` in place of the latents' decoder rows."""
        latents = self._latents(x)
        inside = token_mask(batch.kinds, self.tokens).to(x.device)
        present = encoded or encode_at(self.sae, x, inside)
        change = self.change(present_values(present, latents))
        change = torch.where((latents >= 0)[:, None], change, 0.0)
        return torch.where(inside[..., None], (change @ rows).to(x.dtype), 0.0)

    def _latents(self, x: Tensor) -> Tensor:
        """`(batch, m)`."""
        return self.latents.to(x.device).expand(x.shape[0], -1)


def steer(
    sae: SAE,
    latents: Tensor,
    scale: float | Tensor,
    error_preserving: bool = True,
    tokens: TokenSet | Span = "all",
) -> Edit:
    """z' = scale * z on `latents`: 0 ablates, 1 changes nothing, -1 flips.

    A tensor `scale` is `(batch, m)`, `(batch, 1)` or `(m,)`.
    """
    factor = _per_latent(scale)
    return Edit(sae, latents, lambda values: (factor - 1) * values, error_preserving, tokens)


def clamp(
    sae: SAE,
    latents: Tensor,
    value: float | Tensor,
    error_preserving: bool = True,
    tokens: TokenSet | Span = "all",
) -> Edit:
    """z' = value on `latents`, added where they were silent; no other latent gives way for it.

    A tensor `value` has a shape as `steer`'s scale.
    """
    level = _per_latent(value)
    return Edit(sae, latents, lambda values: level - values, error_preserving, tokens)


def add(
    sae: SAE,
    latents: Tensor,
    amount: float | Tensor,
    error_preserving: bool = True,
    tokens: TokenSet | Span = "all",
) -> Edit:
    """z' = z + amount on `latents`, silent or not: the stream moves along their decoder rows.

    A tensor `amount` has a shape as `steer`'s scale.
    """
    step = _per_latent(amount)
    return Edit(sae, latents, lambda values: values * 0 + step, error_preserving, tokens)


def together(*edits: Edit) -> Hook:
    """Several edits at one hookpoint: each sees the stream as it was before all of them.

    An SAE that several edits share reads the stream once. Raises `ValueError` where one would
    replace the stream and another keep it, or two SAEs would replace it.
    """
    first = edits[0]
    if len({edit.error_preserving for edit in edits}) > 1:
        raise ValueError("edits at one hookpoint must all replace the stream or all preserve it")
    if not first.error_preserving and any(edit.sae is not first.sae for edit in edits):
        raise ValueError("only one SAE can replace the stream at a hookpoint")

    def hook(x: Tensor, batch: Batch) -> Tensor:
        saes = {id(edit.sae): edit.sae for edit in edits}
        inside = torch.stack([token_mask(batch.kinds, edit.tokens) for edit in edits]).any(0)
        encoded = {key: encode_at(sae, x, inside) for key, sae in saes.items()}
        moved = [edit.delta(x, batch, encoded[id(edit.sae)]) for edit in edits]
        return first.base(x, batch) + torch.stack(moved).sum(0)

    return hook


def as_released(sae: SAE, latents: Sequence[int], value: float) -> Hook:
    """Clamping as the paper's released code does it, to compare with.

    The pre-activations are clamped before the k largest are taken, so that other latents give way;
    the reconstruction replaces every token, BOS too; decoded tokens are reconstructed, not clamped.
    """
    chosen = list(latents)

    def hook(x: Tensor, batch: Batch) -> Tensor:
        flat = x.reshape(-1, sae.d_model).to(sae.W_enc)
        clamped = (batch.kinds != TokenKind.ANSWER).to(x.device).reshape(-1, 1)
        decoded, start = [], 0
        for pre in sae.dense_parts(flat):
            rows = clamped[start : start + len(pre)]
            pre[:, chosen] = torch.where(rows, value, pre[:, chosen])
            found = sae.choose(pre)
            decoded.append(sae.decode(Latents(found.indices.int(), found.values)))
            start += len(pre)
        new = torch.cat(decoded).reshape(x.shape).to(x.dtype)
        return torch.where((batch.kinds != TokenKind.PAD).to(x.device)[..., None], new, x)

    return hook


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
    found = [
        ((latents.indices == one[:, None, None]) * latents.values).sum(-1)
        for one in wanted.unbind(-1)
    ]
    empty = latents.values.new_zeros(*latents.values.shape[:-1], 0)
    return torch.stack(found, -1) if found else empty


def _per_latent(amount: float | Tensor) -> float | Tensor:
    """Ready to meet values of shape `(batch, tokens, m)`."""
    return amount[..., None, :] if isinstance(amount, Tensor) else amount
