"""Products of a table's rows with sparse latents. Nothing of size (tokens, rows) or (tokens, k, width) is ever made."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def weighted_rows(table: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum over k of `weights * table[indices]`: `(..., k)` and `(..., k)` give `(..., width)`. Differentiable."""
    k = indices.shape[-1]
    flat = embedding_bag(
        indices.reshape(-1, k), table, per_sample_weights=weights.reshape(-1, k), mode="sum"
    )
    return flat.reshape(*indices.shape[:-1], table.shape[1])


def row_dots(table: Tensor, indices: Tensor, vectors: Tensor) -> Tensor:
    """`table[indices] . vectors`: indices `(..., k)`, vectors `(..., width)`, result `(..., k)`.

    This is the gradient of `weighted_rows` for its weights, and embedding_bag's own backward computes it
    without gathering the rows.
    """
    with torch.enable_grad():
        weights = vectors.new_zeros(indices.shape).requires_grad_()
        out = weighted_rows(table.detach(), indices, weights)
        return torch.autograd.grad(out, weights, vectors.detach())[0]


def rows_gradient(n_rows: int, indices: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
    """Per row, the sum of `weights * vectors` over the tokens that chose it: `(n_rows, width)`.

    indices, weights `(tokens, k)`; vectors `(tokens, width)`. Pairs are sorted by row once, so that each row
    is one bag over tokens: no scatter, and the order of summation is fixed.
    """
    rows, order = indices.reshape(-1).sort(stable=True)
    offsets = torch.searchsorted(rows, torch.arange(n_rows, device=rows.device, dtype=rows.dtype))
    tokens = order // indices.shape[-1]
    return embedding_bag(
        tokens, vectors, offsets, mode="sum", per_sample_weights=weights.reshape(-1)[order]
    )
