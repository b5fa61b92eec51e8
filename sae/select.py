"""The k largest of each row, exactly, without looking at most of the row twice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_GROUP = 8
_SMALL = 4096
_ROWS = 256
"""At a time, so that everything between the passes stays in the processor's cache."""


def largest(x: Tensor, k: int, sort: bool = False) -> tuple[Tensor, Tensor]:
    """Values and int64 indices `(rows, k)` of the k largest of each row of `(rows, n)`, strongest
    first or in no order. NaN counts as largest.

    Ties at the k-th place break one way or the other, the same way each time on one machine.
    """
    n = x.shape[1]
    plain = x.is_cuda or x.requires_grad or x.dtype not in (torch.float32, torch.float64)
    if plain or n < _SMALL or n % _GROUP or k > n // _GROUP:
        values, indices = x.topk(k, sorted=sort)
        return values, indices
    parts = [_by_groups(rows, k) for rows in torch.split(x, _ROWS)]
    values, indices = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    if not sort:
        return values, indices
    values, order = values.sort(descending=True)
    return values, indices.gather(1, order)


def _by_groups(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of a row lie in the k groups whose maxima are largest: group j holds the
    columns j, j + n/8, j + 2n/8, ...
    """
    n_groups = x.shape[1] // _GROUP
    grouped = x.view(len(x), _GROUP, n_groups)
    groups = _places_of_largest(grouped.amax(1), k)
    candidates = grouped.gather(2, groups[:, None].expand(-1, _GROUP, -1)).flatten(1)
    places = _places_of_largest(candidates, k)
    indices = places.div(k, rounding_mode="floor") * n_groups + groups.gather(1, places % k)
    return candidates.gather(1, places), indices


def _places_of_largest(x: Tensor, k: int) -> Tensor:
    # numpy's selection is vectorised, torch's is not.
    n = x.shape[1]
    if k == n:
        return torch.arange(n).expand(len(x), n)
    return torch.from_numpy(np.argpartition(x.numpy(), n - k, axis=1)[:, n - k :])
