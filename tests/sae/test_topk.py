"""The TopK autoencoder against its formula."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.sae.lmm import Hookpoint
from lmmsae_eval.sae.topk import TopK, TrainedSae


def test_it_is_the_papers_formula(random_sae: TopK) -> None:
    x = torch.randn(50, 8, dtype=torch.float64)
    pre = torch.relu((x - random_sae.b_dec) @ random_sae.W_enc.T + random_sae.b_enc)
    kept = torch.zeros_like(pre).scatter(1, pre.topk(3).indices, pre.topk(3).values)
    torch.testing.assert_close(
        random_sae.reconstruct(x), kept @ random_sae.W_dec + random_sae.b_dec
    )


def test_latents_are_sparse_int32_and_never_negative(random_sae: TopK) -> None:
    latents = random_sae.encode(torch.randn(2, 5, 8, dtype=torch.float64))
    assert latents.indices.shape == latents.values.shape == (2, 5, 3)
    assert latents.indices.dtype == torch.int32
    assert (latents.values >= 0).all()


def test_latents_come_strongest_first(random_sae: TopK) -> None:
    values = random_sae.encode(torch.randn(30, 8, dtype=torch.float64)).values
    assert (values.diff(dim=-1) <= 0).all()


def test_fewer_than_k_latents_fire_when_relu_shuts_the_rest(random_sae: TopK) -> None:
    random_sae.b_enc.fill_(-100.0)
    latents = random_sae.encode(torch.randn(4, 8, dtype=torch.float64))
    assert not latents.values.any()
    torch.testing.assert_close(random_sae.decode(latents), random_sae.b_dec.expand(4, 8))


def test_half_precision_activations_are_read_in_the_saes_own_precision(random_sae: TopK) -> None:
    x = torch.randn(6, 8).bfloat16()
    torch.testing.assert_close(random_sae.encode(x).values, random_sae.encode(x.double()).values)


def test_no_tokens_give_no_latents(random_sae: TopK) -> None:
    x = torch.zeros(0, 8, dtype=torch.float64)
    assert random_sae.encode(x).indices.shape == (0, 3)
    assert random_sae.reconstruct(x).shape == (0, 8)


def test_the_untrained_control_has_the_same_shapes_unit_rows_and_the_same_mean(
    random_sae: TopK,
) -> None:
    control = random_sae.untrained(seed=5)
    assert (control.n_latents, control.d_model, control.k) == (20, 8, 3)
    torch.testing.assert_close(control.W_dec.norm(dim=1), torch.ones(20, dtype=torch.float64))
    assert torch.equal(control.W_enc, control.W_dec)
    assert torch.equal(control.b_dec, random_sae.b_dec)
    assert torch.equal(control.W_dec, random_sae.untrained(seed=5).W_dec)
    assert not torch.equal(control.W_dec, random_sae.untrained(seed=6).W_dec)


def test_identity_changes_with_the_weights_and_with_k(random_sae: TopK) -> None:
    same = TopK(
        *(
            t.clone()
            for t in (random_sae.W_enc, random_sae.b_enc, random_sae.W_dec, random_sae.b_dec)
        ),
        3,
    )
    fewer = TopK(random_sae.W_enc, random_sae.b_enc, random_sae.W_dec, random_sae.b_dec, 2)
    assert same.identity == random_sae.identity
    assert fewer.identity != random_sae.identity
    same_shapes = random_sae.untrained()
    assert same_shapes.identity != random_sae.identity


def test_the_control_arm_of_a_bound_sae_stays_at_its_hookpoint(random_sae: TopK) -> None:
    bound = TrainedSae("mine", Hookpoint("model.layers.0", 0, "blocks.0"), random_sae)
    control = bound.untrained()
    assert (bound.arm, control.arm) == ("main", "untrained")
    assert control.hookpoint == bound.hookpoint
    assert control.identity != bound.identity == random_sae.identity


@pytest.mark.parametrize("k", [0, 21])
def test_an_impossible_k_is_refused(random_sae: TopK, k: int) -> None:
    with pytest.raises(ValueError, match="k is"):
        TopK(random_sae.W_enc, random_sae.b_enc, random_sae.W_dec, random_sae.b_dec, k)


def test_tensors_that_disagree_are_refused(random_sae: TopK) -> None:
    with pytest.raises(ValueError, match="disagree"):
        TopK(random_sae.W_enc, random_sae.b_enc[:5], random_sae.W_dec, random_sae.b_dec, 3)
