"""Attribution against exact ablation, where the answer is linear in the stream."""

from __future__ import annotations

import pytest
import torch
from lmmsae_eval.sae.attribution import Attribution, attribute
from lmmsae_eval.sae.lmm import LMM, Batch, Prompt, TokenKind
from lmmsae_eval.sae.residual import capture, yes_no
from lmmsae_eval.sae.steering import steer
from lmmsae_eval.sae.topk import TopK


@pytest.fixture
def batch(linear_lmm: LMM) -> Batch:
    return linear_lmm.prepare([Prompt(str(seed)) for seed in range(5)])


@pytest.fixture
def found(linear_lmm: LMM, batch: Batch, random_sae: TopK) -> Attribution:
    return attribute(linear_lmm, batch, linear_lmm.hookpoint(2), random_sae)


def test_attribution_equals_exact_ablation_on_a_linear_model(
    linear_lmm: LMM, batch: Batch, random_sae: TopK, found: Attribution
) -> None:
    hookpoint = linear_lmm.hookpoint(2)
    clean = yes_no(linear_lmm, batch)
    dense = found.per_latent()
    for latent in range(random_sae.n_latents):
        without = yes_no(
            linear_lmm, batch, {hookpoint: steer(random_sae, torch.tensor([latent]), 0.0)}
        )
        torch.testing.assert_close(dense[:, latent], clean - without)


def test_attribution_by_kind_equals_ablation_on_those_tokens(
    linear_lmm: LMM, batch: Batch, random_sae: TopK, found: Attribution
) -> None:
    edit = steer(random_sae, torch.tensor([3]), 0.0, tokens="image")
    difference = yes_no(linear_lmm, batch) - yes_no(
        linear_lmm, batch, {linear_lmm.hookpoint(2): edit}
    )
    torch.testing.assert_close(found.per_latent([TokenKind.IMAGE])[:, 3], difference)
    both = found.per_latent([TokenKind.IMAGE]) + found.per_latent([TokenKind.TEXT])
    torch.testing.assert_close(both, found.per_latent())


def test_latents_error_and_bias_sum_to_the_whole_first_order_effect(
    batch: Batch, found: Attribution, linear_lmm: LMM
) -> None:
    whole = found.values.sum((1, 2)) + found.error.sum(1) + found.bias.sum(1)
    # The model is linear, so the first order is all there is.
    torch.testing.assert_close(whole, found.metric)
    torch.testing.assert_close(found.metric, yes_no(linear_lmm, batch))


def test_the_error_node_is_what_the_sae_leaves_out(
    linear_lmm: LMM, batch: Batch, random_sae: TopK, found: Attribution
) -> None:
    x = batch.inputs["x"]
    left_out = ((x - random_sae.reconstruct(x)) * linear_lmm.readout).sum(-1)  # type: ignore[attr-defined]
    torch.testing.assert_close(found.error[:, 2:], left_out[:, 2:])


def test_positive_supports_yes(
    linear_lmm: LMM, batch: Batch, random_sae: TopK, found: Attribution
) -> None:
    strongest = found.per_latent().argmax(1, keepdim=True)
    weakened = yes_no(
        linear_lmm, batch, {linear_lmm.hookpoint(2): steer(random_sae, strongest, 0.0)}
    )
    assert (weakened < found.metric).all()


def test_padding_and_bos_have_no_latents_to_blame(found: Attribution) -> None:
    assert not found.values[:, :2].any()
    assert not found.bias[:, :2].any()
    assert not found.error[:, 0].any()


def test_all_latents_of_a_batch_cost_one_forward(
    linear_lmm: LMM, batch: Batch, random_sae: TopK
) -> None:
    linear_lmm.forwards = 0  # type: ignore[attr-defined]
    attribute(linear_lmm, batch, linear_lmm.hookpoint(2), random_sae)
    assert linear_lmm.forwards == 1  # type: ignore[attr-defined]


def test_it_works_inside_no_grad_and_leaves_no_graph(
    linear_lmm: LMM, batch: Batch, random_sae: TopK
) -> None:
    with torch.no_grad():
        found = attribute(linear_lmm, batch, linear_lmm.hookpoint(2), random_sae)
    assert not found.values.requires_grad
    assert not found.metric.requires_grad


def test_another_pair_of_words_is_attributed_as_asked_for(
    linear_lmm: LMM, batch: Batch, random_sae: TopK, found: Attribution
) -> None:
    turned = attribute(linear_lmm, batch, linear_lmm.hookpoint(2), random_sae, ("no", "yes"))
    torch.testing.assert_close(turned.values, -found.values)
    torch.testing.assert_close(turned.metric, -found.metric)


def test_an_answer_that_is_not_one_word_of_the_vocabulary_is_an_error(tiny_lmm: LMM) -> None:
    batch = tiny_lmm.prepare([Prompt("is it red ?")])
    sae = TopK.random(8, tiny_lmm.d_model, 2, seed=0)
    for words in (("zeppelin", "no"), ("yes", "no it"), ("", "no")):
        with pytest.raises(ValueError, match="is not one entry of the vocabulary"):
            attribute(tiny_lmm, batch, tiny_lmm.hookpoint(2), sae, words)


def test_on_a_real_model_the_first_order_of_a_small_change_is_exact(tiny_lmm: LMM) -> None:
    """A transformer is not linear: scale a latent by 1 - h and compare with h times its
    attribution.
    """
    batch = tiny_lmm.prepare([Prompt("is there a boat ?"), Prompt("is it red in the sea ?")])
    hookpoint = tiny_lmm.hookpoint(4)
    x = capture(tiny_lmm, batch, [hookpoint])[hookpoint]
    inside = (batch.kinds == TokenKind.TEXT)[..., None]
    sae = TopK.random(
        32, tiny_lmm.d_model, 4, seed=0, b_dec=(x * inside).sum((0, 1)) / inside.sum()
    )
    found = attribute(tiny_lmm, batch, hookpoint, sae)
    strongest = found.per_latent().abs().argmax(1, keepdim=True)
    h = 1e-2
    up, down = (
        yes_no(tiny_lmm, batch, {hookpoint: steer(sae, strongest, 1 + s * h)}) for s in (1, -1)
    )
    expected = found.per_latent().gather(1, strongest)[:, 0]
    torch.testing.assert_close((up - down) / (2 * h), expected, rtol=2e-2, atol=1e-3)
