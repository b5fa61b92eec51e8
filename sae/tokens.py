"""Which positions of a sequence are meant: the same rule for training, steering and reading."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import UsageError
from .lmm import TokenKind

TokenSet = Literal["all", "image", "text", "last"]

_KINDS: dict[str, tuple[TokenKind, ...]] = {
    "all": (
        TokenKind.TEXT,
        TokenKind.ANSWER,
        TokenKind.IMAGE,
        TokenKind.TILE,
        TokenKind.SEPARATOR,
    ),
    "image": (TokenKind.IMAGE, TokenKind.TILE, TokenKind.SEPARATOR),
    "text": (TokenKind.TEXT, TokenKind.ANSWER),
}


def token_mask(kinds: Tensor, tokens: TokenSet) -> Tensor:
    """`(batch, tokens)` bool: the positions of `kinds` that belong to the set.

    Padding never does. BOS neither, except as the `last` position: its norm is far off that of
    every other token, SAEs are trained without it and so can't stand in for it.
    """
    if tokens == "last":
        mask = torch.zeros_like(kinds, dtype=torch.bool)
        mask[:, -1] = kinds[:, -1] != TokenKind.PAD
        return mask
    if tokens not in _KINDS:
        raise UsageError(f"unknown token set {tokens!r}; choose all, image, text or last")
    return torch.isin(kinds, kinds.new_tensor(_KINDS[tokens]))
