"""Products of a table's rows with sparse latents. Nothing of size (tokens, rows) or (tokens, k,
width) is ever made.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def weighted_rows(table: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum over k of `weights * table[indices]`: `(..., k)` and `(..., k)` give `(..., width)`.
    Differentiable.
    """
    k = indices.shape[-1]
    flat = embedding_bag(
        indices.reshape(-1, k), table, per_sample_weights=weights.reshape(-1, k), mode="sum"
    )
    return flat.reshape(*indices.shape[:-1], table.shape[1])


def row_dots(table: Tensor, indices: Tensor, vectors: Tensor) -> Tensor:
    """`table[indices] . vectors`: indices `(..., k)`, vectors `(..., width)`, result `(..., k)`.

    This is the gradient of `weighted_rows` for its weights, and embedding_bag's own backward
    computes it without gathering the rows.
    """
    with torch.enable_grad():
        weights = vectors.new_zeros(indices.shape).requires_grad_()
        out = weighted_rows(table.detach(), indices, weights)
        return torch.autograd.grad(out, weights, vectors.detach())[0]


class BagsByRow:
    """The (token, row) pairs of a batch, sorted by row once, so that each row is one bag over
    tokens.

    No scatter, nothing of size (tokens, k, width), and the order of summation is fixed.
    """

    def __init__(self, indices: Tensor, n_rows: int) -> None:
        """`indices` `(tokens, k)`: the rows that each token chose."""
        rows, self._order = indices.reshape(-1).sort(stable=True)
        starts = torch.arange(n_rows, device=rows.device, dtype=rows.dtype)
        self._offsets = torch.searchsorted(rows, starts)
        self._tokens = self._order // indices.shape[-1]

    def sum(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """Per row, the sum of `weights * vectors` over its tokens: `(tokens, k)`, `(tokens, width)`
        give `(n_rows, width)`.
        """
        sorted_weights = weights.reshape(-1)[self._order]
        return embedding_bag(
            self._tokens, vectors, self._offsets, mode="sum", per_sample_weights=sorted_weights
        )
