"""Activations for training: one LMM forward feeds all hookpoints, and a shuffle buffer mixes tokens
across images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from ..errors import UsageError
from .lmm import LMM, Hookpoint, Prompt
from .residual import capture
from .tokens import TokenSet, token_mask


@dataclass(frozen=True)
class TokenBatch:
    """Tokens of many prompts, in random order, the same ones at every hookpoint."""

    activations: dict[Hookpoint, Tensor]
    """Each `(tokens, d_model)` float32."""
    kinds: Tensor
    """`(tokens,)` of TokenKind."""

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.activations.values())


def activations(
    lmm: LMM,
    prompts: Iterable[Prompt],
    hookpoints: Sequence[Hookpoint],
    tokens: TokenSet = "all",
    prompts_per_forward: int = 64,
) -> Iterator[TokenBatch]:
    """The chosen tokens of one forward after the other, not yet shuffled. Padding and BOS are left
    out.
    """
    source = iter(prompts)
    while group := list(islice(source, prompts_per_forward)):
        batch = lmm.prepare(group)
        mask = token_mask(batch.kinds, tokens)
        residual = capture(lmm, batch, hookpoints)
        rows = {hookpoint: x[mask.to(x.device)].float() for hookpoint, x in residual.items()}
        for hookpoint, x in rows.items():
            if not torch.isfinite(x).all():
                raise UsageError(
                    f"{lmm.name} gives NaN or infinity at {hookpoint}; load it in float32"
                )
        yield TokenBatch(rows, batch.kinds[mask])


def endless(one_pass: Callable[[], Iterable[TokenBatch]], keep_bytes: int) -> Iterator[TokenBatch]:
    """Pass after pass. A pass that fits into `keep_bytes` runs the LMM once and is kept; a longer
    one is run again each time. Ends when a pass gives nothing, as the second one over an iterator
    does.
    """
    kept: list[TokenBatch] = []
    room = keep_bytes
    started = True
    while started:
        started = False
        for chunk in one_pass():
            started = True
            room -= chunk.nbytes
            if room >= 0:
                kept.append(chunk)
            else:
                kept.clear()
            yield chunk
        if room >= 0:
            yield from cycle(kept)


def shuffled(
    chunks: Iterable[TokenBatch], batch_tokens: int, buffer_tokens: int, generator: torch.Generator
) -> Iterator[TokenBatch]:
    """Batches of `batch_tokens`, drawn at random from a buffer that is refilled when half empty.

    What is left at the end comes out too, the last batch being smaller.
    """
    pool: list[TokenBatch] = []
    held = 0
    for chunk in chunks:
        pool.append(chunk)
        held += len(chunk)
        if held >= buffer_tokens:
            mixed = _mix(pool, generator)
            n_out = max(batch_tokens, held // 2 // batch_tokens * batch_tokens)
            yield from _cut(_rows(mixed, slice(0, n_out)), batch_tokens)
            pool = [_rows(mixed, slice(n_out, None))]
            held -= n_out
    if held:
        yield from _cut(_mix(pool, generator), batch_tokens)


def _mix(pool: Sequence[TokenBatch], generator: torch.Generator) -> TokenBatch:
    kinds = torch.cat([chunk.kinds for chunk in pool])
    order = torch.randperm(len(kinds), generator=generator).to(kinds.device)
    hookpoints = pool[0].activations
    mixed = {h: torch.cat([chunk.activations[h] for chunk in pool])[order] for h in hookpoints}
    return TokenBatch(mixed, kinds[order])


def _rows(batch: TokenBatch, rows: slice) -> TokenBatch:
    return TokenBatch({h: x[rows] for h, x in batch.activations.items()}, batch.kinds[rows])


def _cut(batch: TokenBatch, size: int) -> Iterator[TokenBatch]:
    for start in range(0, len(batch), size):
        yield _rows(batch, slice(start, start + size))
