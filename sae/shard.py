"""SAEs of the TopK family whose latents are shared out over ranks, for those too large for one
device.

Each rank has the rows of some latents in W_enc, b_enc and W_dec, with their gradients and Adam's
moments; b_dec and a threshold are everyone's. All ranks see all tokens. Weights never travel in a
step: the sum of what the shards decode does, and what tells who fires, which of each token are the
k strongest values of each shard, or of a batch a few counts. (FSDP would send all weights to
everyone twice a step: with 2^17 latents of width 4096, 4.3 GB each time.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import UsageError
from .batch_topk import BatchTopK
from .distributed import ALONE, Ranks
from .family import Share, TopKFamily
from .matryoshka import MatryoshkaBatchTopK, rings
from .sae import SAE, Latents
from .topk import TopK

_ROWS = ("W_enc", "b_enc", "W_dec")
"""What is shared out."""


@dataclass(frozen=True, eq=False)
class Shard(TopKFamily):
    """Some latents of an SAE: every rank has as many, in order of rank."""

    ranks: Ranks

    kind: ClassVar[type[SAE]]
    """The architecture that it is part of."""

    @classmethod
    def of(cls, sae: SAE, ranks: Ranks) -> Self:
        """This rank's part, copied. Raises `UsageError` where latents don't go round."""
        share = latents_of_each(sae.architecture, sae.n_latents, sae.k, ranks.world)
        rows = slice(ranks.rank * share, (ranks.rank + 1) * share)
        own = _settings(sae)
        own |= {name: own[name][rows].clone() for name in _ROWS}
        return cls(**own, ranks=ranks)

    def whole(self) -> SAE:
        """The SAE with everyone's latents, on every rank: all must ask."""
        own = _settings(self)
        own |= {name: self._of_all(own[name]) for name in _ROWS}
        del own["ranks"]
        return self.kind(**own)

    @property
    def first(self) -> int:
        """The place of its first latent among everyone's."""
        return self.ranks.rank * self.n_latents

    def _of_all(self, own: Tensor) -> Tensor:
        """What each rank has `(own latents, ...)`, in one: `(latents, ...)`."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard

        mesh = init_device_mesh(own.device.type, (self.ranks.world,))
        whole: Tensor = DTensor.from_local(own, mesh, [Shard(0)]).full_tensor()
        return whole

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


@dataclass(frozen=True, eq=False)
class TopKShard(Shard, TopK):
    """Some latents of a TopK."""

    architecture = "topk_shard"
    kind = TopK

    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        # The k strongest of all are among the k strongest of each shard.
        mine = super().select(parts, n_tokens, k)
        kept = self.among_strongest(mine.values, k)
        return Latents(mine.indices, mine.values if kept is None else mine.values * kept)


@dataclass(frozen=True, eq=False)
class BatchTopKShard(Shard, BatchTopK):
    """Some latents of a BatchTopK. Of latents that tie at the last place all fire."""

    architecture = "batch_topk_shard"
    kind: ClassVar[type[SAE]] = BatchTopK

    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        values, places = self.largest(parts, k * n_tokens)
        cut = self.cut_of(values, k * n_tokens, ALONE)
        fires = values >= (torch.inf if cut is None else cut)
        return self.by_token(values[fires], places[fires], n_tokens)

    def cut_of(self, values: Tensor, wanted: int, ranks: Ranks) -> Tensor | None:
        """`ranks` have no other tokens here; those that count have the other latents."""
        return super().cut_of(values, wanted, self.ranks)

    def smallest(self, fired: Latents) -> Tensor:
        mine = super().smallest(fired)
        return torch.stack(self.ranks.gather(mine)).min()


@dataclass(frozen=True, eq=False)
class MatryoshkaShard(BatchTopKShard):
    """Some latents of a Matryoshka-BatchTopK."""

    sizes: tuple[int, ...]
    """Of the dictionaries, in everyone's latents."""

    architecture = "matryoshka_shard"
    kind = MatryoshkaBatchTopK

    def shares(self, fired: Latents) -> Sequence[Share]:
        return rings(fired, self.sizes, self.first)


_SHARDS: tuple[type[Shard], ...] = (TopKShard, BatchTopKShard, MatryoshkaShard)
SHARED_OUT = tuple(shard.kind.architecture for shard in _SHARDS)
"""The architectures whose latents can be."""


def shard_of(sae: SAE, ranks: Ranks) -> Shard:
    """This rank's part of an SAE, copied. Raises `UsageError` where it can't be shared out."""
    for shard in _SHARDS:
        if shard.kind is type(sae):
            return shard.of(sae, ranks)
    latents_of_each(sae.architecture, sae.n_latents, sae.k, ranks.world)
    raise ValueError(f"{type(sae).__name__} is a part already")


def latents_of_each(architecture: str, n_latents: int, k: int, world: int) -> int:
    """How many latents a rank gets. Raises `UsageError` for an architecture without shards, where
    latents don't go round evenly, and where k is more than one rank has.
    """
    if architecture not in SHARED_OUT:
        raise UsageError(
            f"only latents of {', '.join(SHARED_OUT)} can be shared out, not those of "
            f"{architecture}; distribute data or layers"
        )
    share, rest = divmod(n_latents, world)
    if rest:
        raise UsageError(
            f"{n_latents} latents can't be shared out evenly among {world} processes; choose a "
            f"multiple of {world}"
        )
    if k > share:
        raise UsageError(f"k is {k} but each of {world} processes has {share} latents; start fewer")
    return share


def whole(sae: SAE) -> SAE:
    """Of a shard, the SAE that it is part of (all ranks must ask); any other as it is."""
    return sae.whole() if isinstance(sae, Shard) else sae


def _settings(sae: SAE) -> dict[str, Any]:
    return {field.name: getattr(sae, field.name) for field in fields(sae)}
