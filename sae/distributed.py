"""The processes that `torchrun` starts, as one training sees them. Alone, nothing is ever sent.

Three ways to share the work: every rank has all SAEs and its own part of each batch (`data`); each
rank has the SAEs of some layers and all tokens (`layers`); or each has some latents of every SAE
and all tokens (`latents`, see `shard.py`). In all of them, a forward of the LMM is made by one rank
only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torch.nn.functional import pad

from .lmm import Hookpoint
from .source import TokenBatch

Distribute = Literal["data", "layers", "latents"]


@dataclass(frozen=True)
class Ranks:
    """This process among the others."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    """Where what is sent must lie."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Over all ranks, in place; the same shape everywhere."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Everyone's tensor, in order of rank; the same shape everywhere."""
        if self.world == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.world)]
        distributed.all_gather(found, tensor.contiguous())
        return found

    def gather_objects(self, value: Any) -> list[Any]:
        """Everyone's value, in order of rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def gather_at(self, owner: int, tensor: Tensor) -> list[Tensor]:
        """Everyone's tensor at `owner`, nothing elsewhere; the same shape everywhere."""
        found = [torch.empty_like(tensor) for _ in range(self.world)] if self.rank == owner else []
        distributed.gather(tensor.contiguous(), found or None, dst=owner)
        return found

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            distributed.barrier()


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of `torchrun`, or this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device != "cpu" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


@dataclass(frozen=True)
class Work:
    """What this process does of a training of `hookpoints`."""

    hookpoints: list[Hookpoint]
    ranks: Ranks
    how: Distribute

    @property
    def mine(self) -> list[Hookpoint]:
        """Those whose SAEs this process trains, or trains together with others."""
        if self.how != "layers":
            return self.hookpoints
        return self.hookpoints[self.ranks.rank :: self.ranks.world]

    @property
    def together(self) -> Ranks:
        """Who learns the same latents from other tokens."""
        return self.ranks if self.how == "data" else ALONE

    @property
    def shards(self) -> Ranks:
        """Who has other latents of the same SAEs."""
        return self.ranks if self.how == "latents" else ALONE

    @property
    def all_tokens(self) -> bool:
        """Whether every process sees every token."""
        return self.how != "data"

    @property
    def first(self) -> bool:
        return self.ranks.rank == 0

    @property
    def writes(self) -> bool:
        """Whether this process writes the SAEs that are `mine`."""
        return self.first or self.how == "layers"


def work_of(hookpoints: Sequence[Hookpoint], ranks: Ranks, how: Distribute) -> Work:
    """A process alone shares nothing out, whatever was asked for."""
    return Work(list(dict.fromkeys(hookpoints)), ranks, how if ranks.world > 1 else "data")


def exchanged(
    chunks: Iterable[TokenBatch],
    hookpoints: Sequence[Hookpoint],
    d_model: int,
    ranks: Ranks,
    to_all: bool = False,
) -> Iterator[TokenBatch]:
    """Everyone's chunks, each layer's activations at its owner or `to_all`, in the order of one
    process alone.

    Ranks whose chunks are fewer or smaller take part in every round, so that none waits for ever.
    """
    source = iter(chunks)
    while True:
        chunk = next(source, None)
        n = torch.tensor([-1 if chunk is None else len(chunk)], device=ranks.device)
        sizes = [int(size) for size in ranks.gather(n)]
        if max(sizes) < 0:
            return
        if chunk is None:
            none = torch.zeros(0, d_model)
            chunk = TokenBatch(dict.fromkeys(hookpoints, none), torch.zeros(0, dtype=torch.int8))
        everyones = _sent(chunk, max(sizes), hookpoints, ranks, to_all)
        for size, sent in zip(sizes, everyones, strict=True):
            if size >= 0:
                rows = {h: x[:size] for h, x in sent.activations.items()}
                yield TokenBatch(rows, sent.kinds[:size])


def _sent(
    chunk: TokenBatch, longest: int, hookpoints: Sequence[Hookpoint], ranks: Ranks, to_all: bool
) -> list[TokenBatch]:
    """Everyone's chunk, padded to the `longest`."""

    def padded(x: Tensor) -> Tensor:
        return pad(x, (*[0, 0] * (x.dim() - 1), 0, longest - len(x))).to(ranks.device)

    kinds = ranks.gather(padded(chunk.kinds))
    found = [TokenBatch({}, of_rank) for of_rank in kinds]
    for place, hookpoint in enumerate(hookpoints):
        x = padded(chunk.activations[hookpoint])
        rows = ranks.gather(x) if to_all else ranks.gather_at(place % ranks.world, x)
        for batch, of_rank in zip(found, rows, strict=False):  # none at who is not the owner
            batch.activations[hookpoint] = of_rank
    return found
