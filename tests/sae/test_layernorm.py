"""A token's scale and mean travel as latents: decoding and steering are exact."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.sae.layernorm import LayerNormTopK
from lmmsae_eval.sae.topk import TopK
from torch import Tensor


@pytest.fixture
def sae() -> LayerNormTopK:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return LayerNormTopK.of(draw(20, 8), draw(20), draw(20, 8), draw(8), k=3)


def test_shifting_and_stretching_a_token_does_the_same_to_its_reconstruction(
    sae: LayerNormTopK,
) -> None:
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = sae.reconstruct(10 * x - 7)
    # Not exactly: the variance is kept from 0 by a constant.
    torch.testing.assert_close(moved, 10 * sae.reconstruct(x) - 7, rtol=1e-3, atol=5e-3)


def test_three_latents_are_on_at_every_token_and_k_others_at_most(sae: LayerNormTopK) -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    indices, values = sae.encode(x)
    assert indices.shape == values.shape == (2, 5, 6)
    assert indices.dtype == torch.int32
    assert (indices[..., -3:] == torch.tensor([20, 21, 22])).all()
    assert (values >= 0).all()
    mean, std = x.mean(-1), x.std(-1)
    torch.testing.assert_close(values[..., 3], std)
    torch.testing.assert_close(values[..., 4] - values[..., 5], mean)


def test_its_identity_is_not_that_of_a_topk_with_the_same_weights(sae: LayerNormTopK) -> None:
    assert TopK(*sae.tensors, k=3).identity != sae.identity


def test_a_token_without_spread_reconstructs_to_its_mean(sae: LayerNormTopK) -> None:
    flat = torch.full((1, 8), 4.0, dtype=torch.float64)
    torch.testing.assert_close(sae.reconstruct(flat), flat)
