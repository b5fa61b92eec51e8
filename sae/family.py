"""The TopK family: how many latents fire is fixed while training, so no penalty is needed, and the
gradients can be written down (`step.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .sae import SAE, Latents


class Share(NamedTuple):
    """Some of the latents that fired. With all shares before it, one is to reconstruct x; that
    reconstruction's FVU counts `weight` in the loss.
    """

    latents: Latents
    weight: float


@dataclass(frozen=True, eq=False)
class TopKFamily(SAE):
    """An SAE that chooses k latents a token, each token for itself or the batch together."""

    @abstractmethod
    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        """Which latents fire in a training batch of `n_tokens`, whose pre-activations come in
        `parts`, in the order of the tokens. A part is not kept: the next one may overwrite it.
        """

    def shares(self, fired: Latents) -> Sequence[Share]:
        """What fired, as the loss looks at it: here all in one."""
        return [Share(fired, 1.0)]

    def among_strongest(self, values: Tensor, k: int) -> Tensor | None:
        """Given the at most k strongest values `(tokens, slots)` of the latents here, those that
        are among the k strongest of all latents, as `(tokens, slots)` bool; None where no rank has
        any. Here all latents are.
        """
        return torch.ones_like(values, dtype=torch.bool) if values.numel() else None

    def together(self, part: Tensor) -> Tensor:
        """The sum of `part` over the ranks that have other latents; may overwrite it. Here none."""
        return part

    def observe(self, fired: Latents) -> None:
        """Learn from a training batch what no gradient teaches; here nothing."""
