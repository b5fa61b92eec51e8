"""Views become tokens in order: cells row by row, separators at the ends of rows."""

from __future__ import annotations

import torch
from lmmsae_eval.sae.lmm import TokenKind
from lmmsae_eval.sae.places.views import View, grid, placed, tiles


def test_boxes_are_in_reading_order() -> None:
    assert placed([grid((0, 0, 4, 2), 2, 2)]).boxes.tolist() == [
        [0, 0, 2, 1],
        [2, 0, 4, 1],
        [0, 1, 2, 2],
        [2, 1, 4, 2],
    ]


def test_a_newline_ends_each_row_and_has_no_box() -> None:
    view = View([(0, 1), (1, 2)], [(0, 2), (3, 4)], TokenKind.TILE, newline=True)
    tokens = placed([view])
    tile, end = int(TokenKind.TILE), int(TokenKind.SEPARATOR)
    assert tokens.kinds.tolist() == [tile, tile, end, tile, tile, end]
    assert not tokens.boxes[[2, 5]].any()
    assert tokens.boxes[4].tolist() == [3, 1, 4, 2]
    assert view.box == (0, 0, 4, 2)


def test_a_view_of_no_rows_has_no_tokens() -> None:
    assert len(placed([View([], [(0, 2)], TokenKind.TILE, newline=True)])) == 0


def test_tiles_come_one_after_another_each_with_its_own_grid() -> None:
    tokens = placed(tiles((0, 0, 8, 4), 1, 2, 2))
    assert tokens.boxes[[0, 3, 4]].tolist() == [[0, 0, 2, 2], [2, 2, 4, 4], [4, 0, 6, 2]]


def test_views_are_joined_in_order() -> None:
    whole = grid((0, 0, 8, 4), 1, 1)
    tokens = placed([*tiles((0, 0, 8, 4), 1, 2, 1), whole])
    assert tokens.kinds.tolist() == [TokenKind.TILE, TokenKind.TILE, TokenKind.IMAGE]
    assert torch.equal(tokens.boxes[2], torch.tensor([0.0, 0, 8, 4]))
    assert len(tokens) == len(whole) + 2
