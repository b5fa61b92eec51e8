"""The products of `sparse.py` as Triton kernels, for CUDA.

Both take (bag or row, token) pairs in order, so that a row's pairs lie side by side, nothing is
added atomically, and a result does not depend on what the device happens to finish first. Sums are
made in float32, in float64 for float64.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 128
_PAIRS = 16


def bag_sums(
    table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor, room: Tensor | None = None
) -> Tensor:
    """`(n_bags, width)`: bag i sums `weights * table[rows]` from starts[i] to starts[i + 1].
    `room` of that shape may be overwritten and be the result.
    """
    width = table.shape[1]
    out = table.new_empty(len(starts), width) if room is None else room
    columns = _columns(width)
    if len(starts) == 0:
        return out
    with torch.cuda.device_of(table):  # type: ignore[no-untyped-call]
        _bag_sums[(len(starts), triton.cdiv(width, columns))](
            *(out, table.contiguous(), rows, starts, weights.contiguous()),
            *(len(rows), len(starts), width, columns, _accumulator(table)),
        )
    return out


def pair_dots(table: Tensor, rows: Tensor, vectors: Tensor, tokens: Tensor) -> Tensor:
    """`(pairs,)`: `table[rows] . vectors[tokens]` of each pair."""
    width = table.shape[1]
    out = table.new_empty(len(rows))
    if len(rows) == 0:
        return out
    with torch.cuda.device_of(table):  # type: ignore[no-untyped-call]
        _pair_dots[(triton.cdiv(len(rows), _PAIRS),)](
            *(out, table.contiguous(), rows, vectors.contiguous(), tokens),
            *(len(rows), width, _PAIRS, _columns(width), _accumulator(table)),
        )
    return out


def _columns(width: int) -> int:
    return min(_COLUMNS, int(triton.next_power_of_2(width)))


def _accumulator(table: Tensor) -> Any:
    return tl.float64 if table.dtype == torch.float64 else tl.float32


@triton.jit
def _bag_sums(
    out,
    table,
    rows,
    starts,
    weights,
    n_pairs,
    n_bags,
    width,
    COLUMNS: tl.constexpr,
    SUM: tl.constexpr,
):
    """One program: some columns of one bag."""
    bag = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < width
    first = tl.load(starts + bag)
    last = tl.load(starts + bag + 1, mask=bag + 1 < n_bags, other=n_pairs)
    total = tl.zeros([COLUMNS], dtype=SUM)
    for pair in range(first, last):
        row = tl.load(rows + pair).to(tl.int64)
        weight = tl.load(weights + pair).to(SUM)
        total += weight * tl.load(table + row * width + columns, mask=inside, other=0.0).to(SUM)
    tl.store(out + bag.to(tl.int64) * width + columns, total, mask=inside)


@triton.jit
def _pair_dots(
    out,
    table,
    rows,
    vectors,
    tokens,
    n_pairs,
    width,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SUM: tl.constexpr,
):
    """One program: some pairs, whose rows are mostly the same one and so in the cache."""
    pairs = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    there = pairs < n_pairs
    row = tl.load(rows + pairs, mask=there, other=0).to(tl.int64)
    token = tl.load(tokens + pairs, mask=there, other=0).to(tl.int64)
    total = tl.zeros([PAIRS, COLUMNS], dtype=SUM)
    for start in range(0, width, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = there[:, None] & (columns < width)[None, :]
        a = tl.load(table + row[:, None] * width + columns[None, :], mask=inside, other=0.0)
        b = tl.load(vectors + token[:, None] * width + columns[None, :], mask=inside, other=0.0)
        total += a.to(SUM) * b.to(SUM)
    tl.store(out + pairs, tl.sum(total, axis=1), mask=there)
