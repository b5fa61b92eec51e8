"""BatchTopK (Bussmann et al. 2024, arXiv:2412.06410): k latents a token on average."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .distributed import Ranks
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
        return self.by_token(values, places, n_tokens)

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
        return self.by_token(values, places, n_tokens)

    def cut_of(self, values: Tensor, wanted: int, ranks: Ranks) -> Tensor | None:
        """The `wanted`-th largest of the positive `values` of all `ranks`, which have the other
        tokens, or the smallest where there are fewer; None without any.

        Exactly, by halving: nobody sends more than a count.
        """
        kind = torch.int64 if values.dtype == torch.float64 else torch.int32
        # The order of positive floats is that of their bits.
        bits = values.sort().values.view(kind)
        wanted = min(wanted, int(ranks.sum_(torch.tensor(len(bits), device=values.device))))
        if wanted == 0:
            return None
        low, high = 0, int(values.new_tensor(torch.inf).view(kind)) + 1
        while high - low > 1:
            middle = (low + high) // 2
            above = len(bits) - torch.searchsorted(bits, bits.new_tensor(middle))
            enough = int(ranks.sum_(above)) >= wanted
            low, high = (middle, high) if enough else (low, middle)
        return bits.new_tensor(low).view(values.dtype)

    @torch.no_grad()
    def observe(self, fired: Latents) -> None:
        smallest = self.smallest(fired)
        if smallest < torch.inf:
            self.learn_threshold(smallest)

    def smallest(self, fired: Latents) -> Tensor:
        """`()`: of what fired in a training batch; infinite where nothing did."""
        on = fired.values[fired.values > 0]
        return on.min() if len(on) else on.new_tensor(torch.inf)

    def learn_threshold(self, smallest: Tensor) -> None:
        """From the smallest latent `()` that fired in a training batch."""
        known = self.threshold > 0
        blend = torch.lerp(smallest, self.threshold, _MEMORY)
        self.threshold.copy_(torch.where(known, blend, smallest))

    def by_token(self, values: Tensor, places: Tensor, n_tokens: int) -> Latents:
        """Latents at `places` = token * n_latents + latent, with unused slots at the end."""
        places, order = places.sort()
        tokens = places.div(self.n_latents, rounding_mode="floor")
        counts = torch.bincount(tokens, minlength=n_tokens)
        slots = max(1, int(counts.max())) if n_tokens else 1
        first = counts.cumsum(0) - counts
        slot = torch.arange(len(places), device=places.device) - first[tokens]
        latents = Latents(places.new_zeros(n_tokens, slots), values.new_zeros(n_tokens, slots))
        latents.indices[tokens, slot] = places % self.n_latents
        latents.values[tokens, slot] = values[order]
        return latents
