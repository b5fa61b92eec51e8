"""A picture as a model reads it: views in token order, each a grid over a part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..lmm import TokenKind

Box = tuple[float, float, float, float]
Span = tuple[float, float]
"""From, to: what one column or row of tokens sees along an axis, in pixels of the original."""


@dataclass(frozen=True, slots=True)
class View:
    """A part of the picture that is read as a grid of tokens, row by row."""

    rows: Sequence[Span]
    columns: Sequence[Span]
    """Beyond the picture's edges where the view is padded."""
    kind: TokenKind = TokenKind.IMAGE
    newline: bool = False
    """Each row ends with a separator."""

    def __len__(self) -> int:
        return len(self.rows) * (len(self.columns) + self.newline)

    @property
    def box(self) -> Box:
        """All that it sees."""
        return (self.columns[0][0], self.rows[0][0], self.columns[-1][1], self.rows[-1][1])


@dataclass(frozen=True, slots=True)
class Placed:
    """The image tokens of one picture, in the order of the sequence."""

    kinds: Tensor
    """`(n,)` int8 of `TokenKind`: IMAGE, TILE, SEPARATOR or QUERY."""
    boxes: Tensor
    """`(n, 4)` float: x0, y0, x1, y1; empty (all 0) for a token without a place."""

    def __len__(self) -> int:
        return len(self.kinds)


def spans(start: float, end: float, n: int) -> list[Span]:
    """`n` equal parts."""
    edges = torch.linspace(start, end, n + 1, dtype=torch.float64).tolist()
    return list(pairwise(edges))


def grid(box: Box, rows: int, columns: int, kind: TokenKind = TokenKind.IMAGE) -> View:
    """A view of equal cells over a box."""
    x0, y0, x1, y1 = box
    return View(spans(y0, y1, rows), spans(x0, x1, columns), kind)


def grid_boxes(box: Box, rows: int, columns: int) -> Tensor:
    """The cells of a grid over a box, in reading order: `(rows * columns, 4)`."""
    return placed([grid(box, rows, columns)]).boxes


def tiles(box: Box, rows: int, columns: int, side: int) -> list[View]:
    """A picture cut into `rows` x `columns` tiles in reading order, each `side` x `side` tokens."""
    x0, y0, x1, y1 = box
    return [
        grid((left, top, right, bottom), side, side, TokenKind.TILE)
        for top, bottom in spans(y0, y1, rows)
        for left, right in spans(x0, x1, columns)
    ]


def placed(views: Sequence[View]) -> Placed:
    """All tokens of all views, in order."""
    parts = [_tokens(view) for view in views]
    return Placed(torch.cat([part.kinds for part in parts]), torch.cat([p.boxes for p in parts]))


def without_place(n: int) -> Placed:
    """`n` tokens of which nobody can say where they look."""
    return Placed(torch.full((n,), TokenKind.QUERY, dtype=torch.int8), torch.zeros(n, 4))


def _tokens(view: View) -> Placed:
    n_rows, n_columns = len(view.rows), len(view.columns)
    boxes = torch.zeros(n_rows, n_columns + view.newline, 4)
    kinds = torch.full((n_rows, n_columns + view.newline), view.kind, dtype=torch.int8)
    kinds[:, n_columns:] = TokenKind.SEPARATOR
    boxes[:, :n_columns, 0::2] = torch.tensor(view.columns).reshape(1, n_columns, 2)
    boxes[:, :n_columns, 1::2] = torch.tensor(view.rows).reshape(n_rows, 1, 2)
    return Placed(kinds.reshape(-1), boxes.reshape(-1, 4))
