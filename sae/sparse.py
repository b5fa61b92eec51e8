"""Products of a table's rows with sparse latents. Nothing of size (tokens, rows) or (tokens, k,
width) is ever made. On CUDA they are Triton's (`kernels.py`) where it is installed, else torch's.

On a CPU, a product that reads each row of its table many times goes over the table some columns at
a time, so that they stay in the processor's cache. That changes no bit of the result: every number
is still the same sum in the same order.
"""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

_COLUMNS = 128
_READS_A_ROW = 8
"""From so many reads a row on, copying the columns out pays."""


def weighted_rows(table: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum over k of `weights * table[indices]`: `(..., k)` and `(..., k)` give `(..., width)`.
    Differentiable.
    """
    k = indices.shape[-1]
    flat = indices.reshape(-1)
    offsets = torch.arange(0, len(flat), k, device=flat.device, dtype=flat.dtype)
    return _bag_sums(table, flat, offsets, weights.reshape(-1)).reshape(
        *indices.shape[:-1], table.shape[1]
    )


def row_dots(table: Tensor, indices: Tensor, vectors: Tensor) -> Tensor:
    """`table[indices] . vectors`: indices `(..., k)`, vectors `(..., width)`, result `(..., k)`."""
    bags = BagsByRow(indices.reshape(-1, indices.shape[-1]), len(table))
    dots = bags.dots(table, vectors.reshape(-1, table.shape[1]))
    return bags.unsorted(dots).reshape(indices.shape)


class BagsByRow:
    """The (token, row) pairs of a batch, sorted by row once, so that each row is one bag over
    tokens.

    No scatter, and the order of summation is fixed: within a row, that of the tokens. Weights go in
    and out in the order of the sorted pairs.
    """

    def __init__(self, indices: Tensor, n_rows: int, used: Tensor | None = None) -> None:
        """`indices` `(tokens, k)`: the rows that each token chose, where `used` says so."""
        flat = indices.reshape(-1)
        # Sorting is by radix: the fewer bytes a key has, the fewer passes.
        keys = flat.to(torch.int16 if n_rows <= 2**15 else torch.int32)
        if used is None:
            rows, self._order = keys.sort(stable=True)
        else:
            kept = used.reshape(-1).nonzero()[:, 0]
            rows, order = keys[kept].sort(stable=True)
            self._order = kept[order]
        self._rows = rows.int()
        self._tokens = (self._order // indices.shape[-1]).int()
        each = torch.arange(n_rows, device=rows.device, dtype=torch.int32)
        self._starts = torch.searchsorted(self._rows, each, out_int32=True)
        self._n_pairs = len(flat)

    def sorted(self, weights: Tensor) -> Tensor:
        """`(tokens, k)` in the order of the pairs."""
        return weights.reshape(-1)[self._order]

    def unsorted(self, weights: Tensor) -> Tensor:
        """Back from the order of the pairs, flat: `(tokens * k,)`, 0 where unused."""
        return weights.new_zeros(self._n_pairs).index_copy_(0, self._order, weights)

    def dots(self, table: Tensor, vectors: Tensor) -> Tensor:
        """`table[row] . vectors[token]` of each pair; vectors are `(tokens, width)`.

        This is the gradient of a bag's weights, from the operator that embedding_bag's own backward
        calls: no rows are gathered. By row it reads the table once and the vectors from the cache.
        """
        if kernels := _kernels(table):
            dots: Tensor = kernels.pair_dots(table, self._rows, vectors, self._tokens)
            return dots
        operator = torch.ops.aten._embedding_bag_per_sample_weights_backward
        found: Tensor = operator(table, vectors, self._tokens, self._starts, self._rows, 0, -1)
        return found

    def sum(self, weights: Tensor, vectors: Tensor, room: Tensor | None = None) -> Tensor:
        """Per row, the sum of `weights * vectors` over its tokens: `(pairs,)`, `(tokens, width)`
        give `(n_rows, width)`. `room` of that shape may be overwritten and be the result.
        """
        return _bag_sums(vectors, self._tokens, self._starts, weights, room)


def _bag_sums(
    table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor, room: Tensor | None = None
) -> Tensor:
    """`(n_bags, width)`: bag i sums `weights * table[rows]` from starts[i] to starts[i + 1]."""
    width = table.shape[1]
    if (kernels := _kernels(table)) and not _differentiated(table, weights):
        sums: Tensor = kernels.bag_sums(table, rows, starts, weights, room)
        return sums
    if table.is_cuda or width <= _COLUMNS or len(rows) < _READS_A_ROW * len(table):
        return embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights)
    out = table.new_empty(len(starts), width) if room is None else room
    for first in range(0, width, _COLUMNS):
        columns = slice(first, first + _COLUMNS)
        part = table[:, columns].contiguous()
        out[:, columns] = embedding_bag(rows, part, starts, mode="sum", per_sample_weights=weights)
    return out


def _kernels(table: Tensor) -> ModuleType | None:
    """Triton's, where they can be used."""
    if not table.is_cuda or find_spec("triton") is None:
        return None
    from . import kernels

    return kernels


def _differentiated(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
