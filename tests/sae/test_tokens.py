"""Which positions a token set means."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.sae.lmm import TokenKind
from lmmsae_eval.sae.tokens import Span, token_mask

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


def test_last_is_the_end_of_each_row_on_whichever_side_it_is_padded() -> None:
    turned = KINDS.roll(-1, 1)
    assert token_mask(turned, "last").tolist() == [[False] * 4 + [True, False]]


def test_a_question_is_the_prompts_own_words_and_generated_is_the_answer() -> None:
    kinds = torch.tensor([[TokenKind.PAD, TokenKind.TEXT, TokenKind.TEXT, TokenKind.ANSWER]])
    assert token_mask(kinds, "question").tolist() == [[False, True, True, False]]
    assert token_mask(kinds, "generated").tolist() == [[False, False, False, True]]
    assert token_mask(kinds, "text").tolist() == [[False, True, True, True]]


TWO_ROWS = torch.tensor([[1, 3, 3, 2, 2, 6], [0, 0, 1, 2, 2, 6]])


@pytest.mark.parametrize(
    ("span", "wanted"),
    [
        (Span(), [[1, 2, 3, 4], [3, 4]]),
        (Span(1, 3), [[1, 2], [3, 4]]),
        (Span(-2), [[3, 4], [3, 4]]),
        (Span(0, -1), [[1, 2, 3], [3]]),
        (Span(-1), [[4], [4]]),
        (Span(7), [[], []]),
    ],
)
def test_a_span_counts_each_prompts_own_tokens_and_never_its_answers(
    span: Span, wanted: list[list[int]]
) -> None:
    """BOS is counted, though it is never edited."""
    mask = token_mask(TWO_ROWS, span)
    assert [row.nonzero()[:, 0].tolist() for row in mask] == wanted
    turned = token_mask(torch.stack([TWO_ROWS[0], TWO_ROWS[1].roll(-2)]), span)
    assert torch.equal(turned[1].roll(2), mask[1])
