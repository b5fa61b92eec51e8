"""Which positions of a sequence are meant: the same rule for training, steering and reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import UsageError
from .lmm import TokenKind


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `stop` of every prompt, counted as Python's slices count.

    Padding is not counted, BOS is; a negative number counts from the prompt's end. What the model
    answers never belongs to it.
    """

    start: int | None = None
    stop: int | None = None


TokenSet = Literal["all", "image", "text", "question", "generated", "last"]
"""`text` is the prompt's words and the answer's, `question` the prompt's alone, template included,
`generated` the answer's alone: every token that is decoded, or that a prompt brings along. `last`
is the end of the sequence: of the prompt on the prefill, then each decoded token in its turn.
"""

_IMAGE = (TokenKind.IMAGE, TokenKind.TILE, TokenKind.SEPARATOR, TokenKind.QUERY)
_KINDS: dict[str, tuple[TokenKind, ...]] = {
    "all": (TokenKind.TEXT, TokenKind.ANSWER, *_IMAGE),
    "image": _IMAGE,
    "text": (TokenKind.TEXT, TokenKind.ANSWER),
    "question": (TokenKind.TEXT,),
    "generated": (TokenKind.ANSWER,),
}


def token_mask(kinds: Tensor, tokens: TokenSet | Span) -> Tensor:
    """`(batch, tokens)` bool: the positions of `kinds` that belong to the set.

    Padding never does, on whichever side it is. BOS neither, except as the `last` position: its
    norm is far off that of every other token, SAEs are trained without it and so can't stand in for
    it. Raises `UsageError` for a set that there isn't.
    """
    if isinstance(tokens, Span):
        return _within(kinds, tokens) & token_mask(kinds, "all")
    if tokens == "last":
        return _last(kinds)
    if tokens not in _KINDS:
        known = ", ".join(get_args(TokenSet))
        raise UsageError(f"unknown token set {tokens!r}; choose one of {known}, or a Span")
    return torch.isin(kinds, kinds.new_tensor(_KINDS[tokens]))


def _last(kinds: Tensor) -> Tensor:
    real = kinds != TokenKind.PAD
    return real & (real.flip(1).cumsum(1).flip(1) == 1)


def _within(kinds: Tensor, span: Span) -> Tensor:
    prompt = (kinds != TokenKind.PAD) & (kinds != TokenKind.ANSWER)
    place, length = prompt.cumsum(1) - 1, prompt.sum(1, keepdim=True)
    mask = prompt
    if span.start is not None:
        mask = mask & (place >= (span.start if span.start >= 0 else length + span.start))
    if span.stop is not None:
        mask = mask & (place < (span.stop if span.stop >= 0 else length + span.stop))
    return mask
