"""BatchTopK (Bussmann et al. 2024, arXiv:2412.06410): k latents a token on average."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .family import TopKFamily
from .sae import Latents, packed

_MEMORY = 0.99
"""Of the threshold, a batch."""


@dataclass(frozen=True, eq=False)
class BatchTopK(TopKFamily):
    """Training keeps the k * tokens largest latents of a whole batch. Afterwards a latent fires
    above the threshold that was usual in training, whatever the other tokens are.

    Ties at the last place break as `torch.topk` breaks them. At inference a latent at the
    threshold is silent.
    """

    threshold: Tensor
    """`()`: running mean of the smallest latent that fired in a batch; 0 before training."""

    architecture = "batch_topk"

    @classmethod
    def _at_start(cls, rows: Tensor) -> dict[str, Any]:
        return {"threshold": rows.new_zeros(())}

    def _at_scale(self, scale: float) -> dict[str, Tensor]:
        return {"threshold": self.threshold * scale}

    @property
    def learned(self) -> tuple[Tensor, ...]:
        return self.W_enc, self.b_enc, self.W_dec, self.b_dec

    def choose(self, pre: Tensor) -> Latents:
        return packed(torch.where(pre > self.threshold, pre, 0.0))

    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        values, places = self.largest(parts, k * n_tokens)
        places, order = places.sort()
        return _by_token(places, values[order], n_tokens, self.n_latents)

    def largest(self, parts: Iterable[Tensor], wanted: int) -> tuple[Tensor, Tensor]:
        """The `wanted` largest latents of a batch, fewer where fewer are positive, and their places
        (token * n_latents + latent), in no order.
        """
        values, places = self.W_enc.new_zeros(0), self.W_enc.new_zeros(0, dtype=torch.int64)
        floor, start = 0.0, 0
        for pre in parts:
            flat = pre.reshape(-1)
            new = (flat > floor).nonzero()[:, 0]
            values = torch.cat([values, flat[new]])
            places = torch.cat([places, new + start])
            start += len(flat)
            if len(values) > wanted:
                values, kept = values.topk(wanted, sorted=False)
                places = places[kept]
                # With so many as large, nothing smaller can be among the largest.
                floor = float(values.min())
        return values, places

    def from_cut(self, parts: Iterable[Tensor], n_tokens: int, cut: Tensor) -> Latents:
        """The latents of `cut`, which is positive, or more."""
        found, start = [(self.W_enc.new_zeros(0, dtype=torch.int64), self.W_enc.new_zeros(0))], 0
        for pre in parts:
            flat = pre.reshape(-1)
            fires = (flat >= cut).nonzero()[:, 0]
            found.append((fires + start, flat[fires]))
            start += len(flat)
        places, values = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        return _by_token(places, values, n_tokens, self.n_latents)

    @torch.no_grad()
    def observe(self, fired: Latents) -> None:
        if not fired.values.any():
            return
        self.learn_threshold(fired.values[fired.values > 0].min())

    def learn_threshold(self, smallest: Tensor) -> None:
        """From the smallest latent `()` that fired in a training batch."""
        known = self.threshold > 0
        blend = torch.lerp(smallest, self.threshold, _MEMORY)
        self.threshold.copy_(torch.where(known, blend, smallest))


def _by_token(places: Tensor, values: Tensor, n_tokens: int, n_latents: int) -> Latents:
    """Latents at ascending `places` = token * n_latents + latent, with unused slots at the end."""
    tokens = places.div(n_latents, rounding_mode="floor")
    counts = torch.bincount(tokens, minlength=n_tokens)
    slots = max(1, int(counts.max())) if n_tokens else 1
    first = counts.cumsum(0) - counts
    slot = torch.arange(len(places), device=places.device) - first[tokens]
    latents = Latents(places.new_zeros(n_tokens, slots), values.new_zeros(n_tokens, slots))
    latents.indices[tokens, slot] = places % n_latents
    latents.values[tokens, slot] = values
    return latents
