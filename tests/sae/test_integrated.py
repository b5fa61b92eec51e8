"""Integrated gradients over latents, where the whole effect is known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from lmmsae_eval.sae.attribution import attribute
from lmmsae_eval.sae.integrated import integrate
from lmmsae_eval.sae.lmm import LMM, Batch, Hook, Hookpoint, Prompt
from lmmsae_eval.sae.residual import yes_no
from lmmsae_eval.sae.steering import steer
from lmmsae_eval.sae.topk import TopK
from torch import Tensor

EVERYTHING = torch.arange(20)


class Curved:
    """The linear toy, whose answer is then bent: first order is no longer all there is."""

    def __init__(self, straight: LMM) -> None:
        self.straight = straight

    def __getattr__(self, name: str) -> object:
        return getattr(self.straight, name)

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        logits = self.straight.forward(batch, hooks, stop_after)
        return None if logits is None else torch.tanh(logits / 8) + logits**3 / 500


@pytest.fixture
def curved(linear_lmm: LMM) -> LMM:
    return Curved(linear_lmm)  # type: ignore[return-value]


@pytest.fixture
def batch(linear_lmm: LMM) -> Batch:
    return linear_lmm.prepare([Prompt(str(seed)) for seed in range(5)])


def test_on_a_linear_model_it_is_the_plain_attribution(
    linear_lmm: LMM, batch: Batch, random_sae: TopK
) -> None:
    hookpoint = linear_lmm.hookpoint(2)
    found = integrate(linear_lmm, batch, hookpoint, random_sae, steps=1)
    plain = attribute(linear_lmm, batch, hookpoint, random_sae)
    torch.testing.assert_close(found.attribution.values, plain.values)
    torch.testing.assert_close(found.attribution.metric, plain.metric)
    assert found.completeness_error.max() < 1e-9


def test_the_sum_over_latents_is_what_ablating_them_all_does(
    curved: LMM, batch: Batch, random_sae: TopK
) -> None:
    hookpoint = curved.hookpoint(2)
    found = integrate(curved, batch, hookpoint, random_sae, steps=20)
    ablated = yes_no(curved, batch, {hookpoint: steer(random_sae, EVERYTHING, 0.0)})
    torch.testing.assert_close(found.without, ablated)
    torch.testing.assert_close(
        found.attribution.values.sum((1, 2)), found.effect, rtol=1e-4, atol=0
    )


def test_its_completeness_error_tells_how_far_it_is_from_that(
    curved: LMM, batch: Batch, random_sae: TopK
) -> None:
    hookpoint = curved.hookpoint(2)
    errors = [
        integrate(curved, batch, hookpoint, random_sae, steps).completeness_error
        for steps in (1, 3, 12)
    ]
    assert errors[0].max() > 0.05
    assert errors[0].mean() > errors[1].mean() > errors[2].mean()
    found = integrate(curved, batch, hookpoint, random_sae, 1)
    missed = (found.attribution.values.sum((1, 2)) - found.effect).abs() / found.effect.abs()
    torch.testing.assert_close(found.completeness_error, missed)


def test_no_steps_are_refused(linear_lmm: LMM, batch: Batch, random_sae: TopK) -> None:
    with pytest.raises(ValueError, match="at least one step, not 0"):
        integrate(linear_lmm, batch, linear_lmm.hookpoint(2), random_sae, steps=0)
