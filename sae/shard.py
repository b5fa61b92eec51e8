"""A TopK SAE whose latents are shared out over ranks, for those too large for one device.

Each rank has the rows of some latents in W_enc, b_enc and W_dec, with their gradients and Adam's
moments; b_dec is everyone's. All ranks see all tokens. Weights never travel in a step: of each
token, the k strongest values of each shard do, and the sum of what the shards decode. (FSDP would
send all weights to everyone twice a step: with 2^17 latents of width 4096, 4.3 GB each time.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import UsageError
from .distributed import Ranks
from .sae import SAE, Latents
from .topk import TopK


@dataclass(frozen=True, eq=False)
class TopKShard(TopK):
    """Some latents of a TopK: every rank has as many, in order of rank."""

    ranks: Ranks

    architecture = "topk_shard"

    @classmethod
    def of(cls, sae: SAE, ranks: Ranks) -> Self:
        """This rank's part, copied. Raises `UsageError` for another architecture, where latents
        don't go round evenly, and where k is more than one rank has.
        """
        if not isinstance(sae, TopK):
            raise UsageError(
                f"only topk latents can be shared out, not those of {sae.architecture}; distribute "
                "data or layers"
            )
        share, rest = divmod(sae.n_latents, ranks.world)
        if rest:
            raise UsageError(
                f"{sae.n_latents} latents can't be shared out evenly among {ranks.world} processes;"
                f" choose a multiple of {ranks.world}"
            )
        if sae.k > share:
            raise UsageError(
                f"k is {sae.k} but each of {ranks.world} processes has {share} latents; start fewer"
            )
        rows = slice(ranks.rank * share, (ranks.rank + 1) * share)
        W_enc, b_enc, W_dec = (part[rows].clone() for part in (sae.W_enc, sae.b_enc, sae.W_dec))
        return cls(W_enc, b_enc, W_dec, sae.b_dec, sae.k, ranks)

    def whole(self) -> TopK:
        """The SAE with everyone's latents, on every rank: all must ask."""
        W_enc, b_enc, W_dec = map(self._of_all, (self.W_enc, self.b_enc, self.W_dec))
        return TopK(W_enc, b_enc, W_dec, self.b_dec, self.k)

    def _of_all(self, own: Tensor) -> Tensor:
        """What each rank has `(own latents, ...)`, in one: `(latents, ...)`."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard

        mesh = init_device_mesh(own.device.type, (self.ranks.world,))
        whole: Tensor = DTensor.from_local(own, mesh, [Shard(0)]).full_tensor()
        return whole

    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        # The k strongest of all are among the k strongest of each shard.
        mine = super().select(parts, n_tokens, k)
        kept = self.among_strongest(mine.values, k)
        return Latents(mine.indices, mine.values if kept is None else mine.values * kept)

    def among_strongest(self, values: Tensor, k: int) -> Tensor | None:
        """Ties break by rank, the lower ones first or last, but for all ranks alike."""
        padded = pad(values, (0, k - values.shape[1]), value=-torch.inf)
        everyones = torch.cat(self.ranks.gather(padded), dim=1)
        best = everyones.topk(k, sorted=False)
        chosen = torch.zeros_like(everyones, dtype=torch.bool)
        chosen.scatter_(1, best.indices, best.values > -torch.inf)
        if not chosen.any():
            return None
        start = self.ranks.rank * k
        return chosen[:, start : start + values.shape[1]]

    def together(self, part: Tensor) -> Tensor:
        return self.ranks.sum_(part)


def whole(sae: SAE) -> SAE:
    """Of a shard, the SAE that it is part of (all ranks must ask); any other as it is."""
    return sae.whole() if isinstance(sae, TopKShard) else sae
