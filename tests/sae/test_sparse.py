"""Products with sparse latents against their dense formulas."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.sae import sparse
from lmmsae_eval.sae.sparse import BagsByRow, row_dots, weighted_rows
from torch import Tensor

TOKENS, ROWS, K, WIDTH = 40, 30, 9, 300


def drawn() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(ROWS, WIDTH, generator=generator)
    indices = torch.rand(TOKENS, ROWS, generator=generator).topk(K).indices
    weights = torch.rand(TOKENS, K, generator=generator)
    return table, indices, weights, torch.randn(TOKENS, WIDTH, generator=generator)


def test_rows_are_weighted_and_summed() -> None:
    table, indices, weights, _ = drawn()
    expected = torch.einsum("tk,tkd->td", weights, table[indices])
    torch.testing.assert_close(weighted_rows(table, indices, weights), expected)


def test_dots_are_those_of_the_chosen_rows() -> None:
    table, indices, _, vectors = drawn()
    expected = torch.einsum("td,tkd->tk", vectors, table[indices])
    found = row_dots(table, indices.int().view(4, 10, K), vectors.view(4, 10, WIDTH))
    torch.testing.assert_close(found.view(TOKENS, K), expected)


@pytest.mark.parametrize("some", [True, False])
def test_each_row_sums_over_the_tokens_that_chose_it(some: bool) -> None:
    _, indices, weights, vectors = drawn()
    used = weights > 0.5 if some else torch.ones_like(weights, dtype=torch.bool)
    bags = BagsByRow(indices, ROWS, used if some else None)
    dense = torch.zeros(TOKENS, ROWS).scatter(1, indices, weights * used)
    torch.testing.assert_close(bags.sum(bags.sorted(weights), vectors), dense.T @ vectors)
    torch.testing.assert_close(bags.unsorted(bags.sorted(weights)), (weights * used).flatten())


def test_going_over_the_columns_in_parts_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    table, indices, weights, _ = drawn()
    in_parts = weighted_rows(table, indices, weights)
    monkeypatch.setattr(sparse, "_COLUMNS", WIDTH)
    assert torch.equal(weighted_rows(table, indices, weights), in_parts)


def test_weighted_rows_pass_gradients_to_rows_and_weights() -> None:
    table, indices, weights, vectors = drawn()
    leaves = table.requires_grad_(), weights.requires_grad_()
    found = torch.autograd.grad((weighted_rows(table, indices, weights) * vectors).sum(), leaves)
    dense = (torch.einsum("tk,tkd->td", weights, table[indices]) * vectors).sum()
    for mine, expected in zip(found, torch.autograd.grad(dense, leaves), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
