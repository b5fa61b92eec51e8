"""Matryoshka-BatchTopK (Bussmann et al. 2025, arXiv:2503.17547): nested dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batch_topk import BatchTopK
from .family import Share
from .sae import Latents

_SHARES = (16, 8, 4, 2, 1)


@dataclass(frozen=True, eq=False)
class MatryoshkaBatchTopK(BatchTopK):
    """A BatchTopK whose first `sizes[i]` latents are to reconstruct x on their own, for each i. The
    loss is the mean of their FVUs.
    """

    sizes: tuple[int, ...]
    """How many latents each dictionary has, growing; the last has all."""

    architecture = "matryoshka"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.sizes
        if sorted({*sizes}) != [*sizes] or sizes[:1] < (1,) or sizes[-1:] != (self.n_latents,):
            raise ValueError(
                f"dictionaries of {sizes} latents do not grow from 1 or more to {self.n_latents}"
            )

    @classmethod
    def _at_start(cls, rows: Tensor) -> dict[str, Any]:
        sizes = {max(1, len(rows) // share) for share in _SHARES}
        return super()._at_start(rows) | {"sizes": tuple(sorted(sizes))}

    def shares(self, fired: Latents) -> Sequence[Share]:
        return rings(fired, self.sizes)


def rings(fired: Latents, sizes: Sequence[int], first: int = 0) -> Sequence[Share]:
    """One share a ring: the latents that a dictionary has and the one before has not. What fired is
    counted from the latent `first` on.
    """
    starts = (0, *sizes[:-1])
    return [
        Share(_within(fired, start - first, end - first), 1 / len(sizes))
        for start, end in zip(starts, sizes, strict=True)
    ]


def _within(fired: Latents, start: int, end: int) -> Latents:
    inside = (fired.indices >= start) & (fired.indices < end)
    return Latents(fired.indices, torch.where(inside, fired.values, 0.0))
