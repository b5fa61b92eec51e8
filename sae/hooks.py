"""Torch forward hooks on decoder blocks: reading, writing, stopping early, going on from a known
point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .lmm import Batch, Hook, Hookpoint


class Stop(Exception):
    """Ends a forward after the last hookpoint."""


@dataclass(frozen=True)
class Prefix:
    """What the blocks up to `index` gave for a batch. The same batch can go on from here, vision
    tower and all of them skipped: many arms differ only from some hookpoint on.
    """

    index: int
    output: Any


@contextmanager
def hooked(
    blocks: Mapping[str, nn.Module],
    hooks: Mapping[Hookpoint, Hook],
    batch_of: Callable[[Tensor], Batch],
    stop_after: Hookpoint | None = None,
) -> Iterator[None]:
    """`hooks` act while the context lasts and are gone afterwards, whatever happened."""
    handles = []
    try:
        for hookpoint, hook in hooks.items():
            handles.append(blocks[hookpoint.module].register_forward_hook(_adapt(hook, batch_of)))
        if stop_after is not None:
            handles.append(blocks[stop_after.module].register_forward_hook(_stop))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(block: nn.Module, keep: Callable[[Any], None]) -> Iterator[None]:
    """`keep` gets the block's output as it is before any hook entered later."""
    handle = block.register_forward_hook(lambda module, args, output: keep(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replayed(blocks: Sequence[nn.Module], prefix: Prefix) -> Iterator[None]:
    """The blocks of the prefix give its output at once instead of computing; hooks still run."""
    done = blocks[: prefix.index + 1]
    try:
        for block in done:
            block.forward = lambda *args, **kwargs: prefix.output
        yield
    finally:
        for block in done:
            block.__dict__.pop("forward", None)


def _adapt(hook: Hook, batch_of: Callable[[Tensor], Batch]) -> Callable[..., Any]:
    """Some releases' blocks return the tensor, others a tuple that starts with it."""

    def forward_hook(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (hook(output[0], batch_of(output[0])), *output[1:])
        return hook(output, batch_of(output))

    return forward_hook


def _stop(module: nn.Module, args: Any, output: Any) -> None:
    raise Stop
