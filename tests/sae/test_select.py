"""The k largest of each row, against sorting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.sae.select import largest

N = 4096


@pytest.mark.parametrize("n", [64, N, N + 8, N + 3])
@pytest.mark.parametrize("k", [1, 5, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_are_those_that_sorting_puts_first(n: int, k: int, dtype: torch.dtype) -> None:
    x = torch.randn(300, n, generator=torch.Generator().manual_seed(n + k), dtype=dtype)
    values, indices = largest(x, k, sort=True)
    assert torch.equal(values, x.sort(descending=True).values[:, :k])
    assert torch.equal(x.gather(1, indices), values)
    unsorted, places = largest(x, k)
    assert torch.equal(unsorted.sort(descending=True).values, values)
    assert torch.equal(x.gather(1, places), unsorted)


@settings(max_examples=15, deadline=None)
@given(k=st.integers(1, N // 8), levels=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_ties_break_to_distinct_latents_and_the_same_ones_each_time(
    k: int, levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(levels, (3, N), generator=generator).float()
    values, indices = largest(x, k, sort=True)
    assert torch.equal(values, x.sort(descending=True).values[:, :k])
    assert all(len(row.unique()) == k for row in indices)
    assert torch.equal(indices, largest(x.clone(), k, sort=True)[1])


def test_nan_is_chosen_and_so_seen() -> None:
    x = torch.zeros(2, N)
    x[1, 7] = torch.nan
    assert largest(x, 3)[0].isnan().any(1).tolist() == [False, True]


def test_values_stay_differentiable_where_autograd_asks() -> None:
    x = torch.randn(2, N, requires_grad=True)
    largest(x, 3)[0].sum().backward()
    assert x.grad is not None
    assert int(x.grad.sum()) == 6
