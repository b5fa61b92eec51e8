"""Hooks that move the stream exactly as far as a real edit does, but elsewhere: controls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .lmm import Batch, Hook
from .steering import Edit
from .tokens import token_mask


def as_far(real: Edit, directions: Tensor) -> Hook:
    """Along `directions` `(batch, d_model)` or `(d_model,)`, at each token as far as `real` goes.

    A direction of zeros leaves the base.
    """
    units = normalize(directions, dim=-1)

    def hook(x: Tensor, batch: Batch) -> Tensor:
        along = units.expand(x.shape[0], -1)[:, None].to(x)
        controlled: Tensor = real.base(x, batch) + _distance(real, x, batch) * along
        return controlled

    return hook


def swapped_decoder(real: Edit, rows: Tensor) -> Hook:
    """`real` with its latents' decoder rows exchanged for those of `rows`, and exactly as far.

    `rows` is shaped like the edit's latents.
    """

    def hook(x: Tensor, batch: Batch) -> Tensor:
        others = real.sae.W_dec[rows.to(x.device).expand(x.shape[0], -1)]
        along = normalize(real.along(others, x, batch), dim=-1)
        controlled: Tensor = real.base(x, batch) + _distance(real, x, batch) * along
        return controlled

    return hook


def added(deltas: Sequence[Tensor]) -> Hook:
    """Row i of the stream plus `deltas[i]` `(tokens, d_model)`: what was made for another prompt.

    The last tokens are laid on one another; where the prompt is longer, or not edited, x stays.
    """

    def hook(x: Tensor, batch: Batch) -> Tensor:
        moved = torch.zeros_like(x)
        for row, delta in zip(moved, deltas, strict=True):
            length = min(len(row), len(delta))
            row[len(row) - length :] = delta[len(delta) - length :].to(x)
        inside = token_mask(batch.kinds, "all").to(x.device)[..., None]
        return x + torch.where(inside, moved, 0.0)

    return hook


def _distance(real: Edit, x: Tensor, batch: Batch) -> Tensor:
    """`(batch, tokens, 1)`: 0 where nothing is edited."""
    distance: Tensor = torch.linalg.vector_norm(real.delta(x, batch), dim=-1, keepdim=True)
    return distance
