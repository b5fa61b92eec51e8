"""Which positions a token set means."""

from __future__ import annotations

import torch
from lmmsae_eval.sae.lmm import TokenKind
from lmmsae_eval.sae.tokens import token_mask

KINDS = torch.tensor(
    [
        [
            TokenKind.PAD,
            TokenKind.BOS,
            TokenKind.IMAGE,
            TokenKind.TILE,
            TokenKind.SEPARATOR,
            TokenKind.TEXT,
        ]
    ]
)


def test_all_is_everything_but_padding_and_bos() -> None:
    assert token_mask(KINDS, "all").tolist() == [[False, False, True, True, True, True]]


def test_image_is_base_tiles_and_separators_and_text_the_rest() -> None:
    assert token_mask(KINDS, "image").tolist() == [[False, False, True, True, True, False]]
    assert token_mask(KINDS, "text").tolist() == [[False, False, False, False, False, True]]


def test_last_is_the_answers_position() -> None:
    assert token_mask(KINDS, "last").tolist() == [[False] * 5 + [True]]
    assert not token_mask(KINDS[:, :1], "last").any()
