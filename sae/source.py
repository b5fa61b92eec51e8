"""Activations for training: one LMM forward feeds all hookpoints, and a shuffle buffer mixes tokens
across images. The place in the stream can be kept and taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from ..errors import UsageError
from .lmm import LMM, Hookpoint, Prompt
from .residual import capture
from .tokens import TokenSet, token_mask

PROMPTS_PER_FORWARD = 64
BUFFER_BATCHES = 16
KEEP_BYTES = 2**30
"""Activations up to this size are kept in memory instead of being made anew in each pass."""


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


@dataclass(frozen=True)
class Share:
    """Every `of`-th forward of a pass, from the `rank`-th on: what one process of several makes."""

    rank: int = 0
    of: int = 1


WHOLE = Share()


OnePass = Callable[[int], Iterable[TokenBatch]]
"""The chunks of one pass over the prompts, without the first so many: `(skip) -> chunks`."""


def activations(
    lmm: LMM,
    prompts: Iterable[Prompt],
    hookpoints: Sequence[Hookpoint],
    tokens: TokenSet = "all",
    prompts_per_forward: int = PROMPTS_PER_FORWARD,
    *,
    skip: int = 0,
    share: Share = WHOLE,
) -> Iterator[TokenBatch]:
    """The chosen tokens of one forward after the other, not yet shuffled. Padding and BOS are left
    out. The share's first `skip` forwards are not run.
    """
    first = share.rank + share.of * skip
    for group in _groups(prompts, prompts_per_forward, first, share.of):
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


def _groups(
    prompts: Iterable[Prompt], size: int, first: int, stride: int
) -> Iterator[list[Prompt]]:
    """Every `stride`-th group from the `first` on. A sequence's other prompts aren't even read."""
    if isinstance(prompts, Sequence):
        for start in range(first * size, len(prompts), stride * size):
            yield [prompts[i] for i in range(start, min(start + size, len(prompts)))]
        return
    source = iter(prompts)
    number = 0
    while group := list(islice(source, size)):
        if number >= first and (number - first) % stride == 0:
            yield group
        number += 1


@dataclass
class Position:
    """Where the passes stand."""

    taken: int = 0
    """Chunks of the current pass that were given out."""


def endless(
    one_pass: OnePass, keep_bytes: int, position: Position | None = None
) -> Iterator[TokenBatch]:
    """Pass after pass, from `position` on, which moves along. A pass that fits into `keep_bytes`
    runs the LMM once and is kept; a longer one is run again each time. Ends when a pass gives
    nothing, as the second one over an iterator does.
    """
    position = position or Position()
    while True:
        skipped = position.taken
        kept: list[TokenBatch] = []
        room = keep_bytes
        for chunk in one_pass(skipped):
            position.taken += 1
            room -= chunk.nbytes
            if room >= 0:
                kept.append(chunk)
            else:
                kept.clear()
            yield chunk
        if position.taken == 0:
            return
        if skipped == 0 and room >= 0:
            for number, chunk in cycle(enumerate(kept, 1)):
                position.taken = number
                yield chunk
        position.taken = 0


class Shuffled:
    """Batches of `batch_tokens`, drawn at random from a buffer that is refilled when half empty.

    What is left at the end comes out too, the last batch being smaller.
    """

    def __init__(
        self,
        chunks: Iterable[TokenBatch],
        batch_tokens: int,
        buffer_tokens: int,
        generator: torch.Generator,
    ) -> None:
        self._chunks = iter(chunks)
        self._batch_tokens = batch_tokens
        self._buffer_tokens = buffer_tokens
        self._generator = generator
        self.buffer: TokenBatch | None = None
        """Tokens that were made but not given out."""
        self.due = 0
        """How many of them, from the first on, come out before the next refill."""

    def __iter__(self) -> Iterator[TokenBatch]:
        return self

    def __next__(self) -> TokenBatch:
        if self.due == 0:
            self._refill()
        assert self.buffer is not None
        size = min(self._batch_tokens, self.due)
        batch = _rows(self.buffer, slice(0, size))
        self.buffer = _rows(self.buffer, slice(size, None))
        self.due -= size
        return batch

    def _refill(self) -> None:
        pool = [] if self.buffer is None else [self.buffer]
        held = sum(len(chunk) for chunk in pool)
        for chunk in self._chunks:
            pool.append(chunk)
            held += len(chunk)
            if held >= self._buffer_tokens:
                batches = held // 2 // self._batch_tokens
                self.due = max(self._batch_tokens, batches * self._batch_tokens)
                break
        else:
            self.due = held
        if held == 0:
            raise StopIteration
        self.buffer = _mix(pool, self._generator)


class Feed:
    """The shuffled batches of one training. Made again with its `state()`, it goes on there."""

    def __init__(
        self,
        one_pass: OnePass,
        batch_tokens: int,
        seed: int,
        hookpoints: Sequence[Hookpoint] = (),
        state: Mapping[str, Tensor] | None = None,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._position = Position()
        chunks = endless(one_pass, keep_bytes, self._position)
        buffer_tokens = BUFFER_BATCHES * batch_tokens
        self._shuffled = Shuffled(chunks, batch_tokens, buffer_tokens, self._generator)
        if state:
            self._restore(state, hookpoints)

    def next(self) -> TokenBatch | None:
        """None when there are no more tokens."""
        return next(self._shuffled, None)

    def state(self) -> dict[str, Tensor]:
        """The buffer, the order to come and the place in the pass."""
        kept = {
            "generator": self._generator.get_state(),
            "taken": torch.tensor(self._position.taken),
            "due": torch.tensor(self._shuffled.due),
        }
        if self._shuffled.buffer is not None:
            kept["kinds"] = self._shuffled.buffer.kinds
            for hookpoint, x in self._shuffled.buffer.activations.items():
                kept[f"x.{hookpoint.name}"] = x
        return kept

    def _restore(self, state: Mapping[str, Tensor], hookpoints: Sequence[Hookpoint]) -> None:
        self._generator.set_state(state["generator"])
        self._position.taken = int(state["taken"])
        self._shuffled.due = int(state["due"])
        if "kinds" in state:
            rows = {hookpoint: state[f"x.{hookpoint.name}"] for hookpoint in hookpoints}
            self._shuffled.buffer = TokenBatch(rows, state["kinds"])


def _mix(pool: Sequence[TokenBatch], generator: torch.Generator) -> TokenBatch:
    newest = pool[-1]
    order = torch.randperm(sum(len(chunk) for chunk in pool), generator=generator)

    def mixed(parts: Sequence[Tensor], device: torch.device) -> Tensor:
        # A buffer that was read from disk lies on the CPU, whatever device makes new tokens.
        return torch.cat([part.to(device) for part in parts])[order.to(device)]

    return TokenBatch(
        {
            h: mixed([chunk.activations[h] for chunk in pool], x.device)
            for h, x in newest.activations.items()
        },
        mixed([chunk.kinds for chunk in pool], newest.kinds.device),
    )


def _rows(batch: TokenBatch, rows: slice) -> TokenBatch:
    return TokenBatch({h: x[rows] for h, x in batch.activations.items()}, batch.kinds[rows])
