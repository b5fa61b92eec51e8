"""Reading: the residual stream at hookpoints, and the yes/no logit difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .lmm import LMM, Batch, Hook, Hookpoint

Hooks = Mapping[Hookpoint, Hook]


def capture(
    lmm: LMM, batch: Batch, hookpoints: Sequence[Hookpoint], hooks: Hooks | None = None
) -> dict[Hookpoint, Tensor]:
    """The residual stream `(batch, tokens, d_model)` at each hookpoint, from one forward stopped
    after the last. What `hooks` write meanwhile is in what is read.
    """
    if not hookpoints:
        return {}
    seen: dict[Hookpoint, list[Tensor]] = {hookpoint: [] for hookpoint in hookpoints}
    last = max(hookpoints, key=lambda hookpoint: hookpoint.index)
    below = {h: hook for h, hook in (hooks or {}).items() if h.index <= last.index}
    with torch.no_grad():
        lmm.forward(batch, _reading(seen, below), stop_after=last)
    return {hookpoint: streams[0] for hookpoint, streams in seen.items()}


class Spoken(NamedTuple):
    """Answers, and the residual stream while they were given."""

    answers: list[str]
    streams: dict[Hookpoint, Tensor]
    """`(batch, prompt + decoded tokens, d_model)`. The last token of an answer is never read."""


def capture_spoken(
    lmm: LMM,
    batch: Batch,
    max_new_tokens: int,
    hookpoints: Sequence[Hookpoint],
    hooks: Hooks | None = None,
) -> Spoken:
    """Generate, and keep the stream of the prompt and of every token that is read while decoding,
    as `hooks` leave it.
    """
    seen: dict[Hookpoint, list[Tensor]] = {hookpoint: [] for hookpoint in hookpoints}
    answers = lmm.generate(batch, max_new_tokens, _reading(seen, hooks or {}))
    return Spoken(answers, {h: torch.cat(streams, 1) for h, streams in seen.items()})


def yes_no(
    lmm: LMM, batch: Batch, hooks: Hooks | None = None, words: tuple[str, str] = ("yes", "no")
) -> Tensor:
    """`(batch,)`: logit(yes) - logit(no) of the answer's first token. Positive means yes.

    Other `words` may stand for the two. Raises `ValueError` for one that isn't a single entry of
    the vocabulary.
    """
    yes, no = (lmm.token_id(word) for word in words)
    logits = lmm.forward(batch, hooks)
    assert logits is not None
    return logits[:, yes] - logits[:, no]


def _reading(seen: Mapping[Hookpoint, list[Tensor]], hooks: Hooks) -> dict[Hookpoint, Hook]:
    """`hooks`, and after them, where `seen` has a list, the stream is put there."""

    def keep(streams: list[Tensor], write: Hook | None) -> Hook:
        def hook(x: Tensor, batch: Batch) -> Tensor:
            streams.append(x if write is None else write(x, batch))
            return streams[-1]

        return hook

    read = {h: keep(streams, hooks.get(h)) for h, streams in seen.items()}
    return {**hooks, **read}
