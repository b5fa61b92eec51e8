"""Attribution is exact to first order, integrated gradients to their last."""

from __future__ import annotations

from typing import Any

import torch
from lmmsae_eval.sae.attribution import attribute, attribute_layers
from lmmsae_eval.sae.integrated import integrate
from lmmsae_eval.sae.lmm import Batch, Hookpoint
from lmmsae_eval.sae.residual import yes_no
from lmmsae_eval.sae.steering import steer
from lmmsae_eval.sae.topk import TopK
from torch import Tensor


def close(found: Tensor, wanted: Tensor) -> None:
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * scale)


def test_all_parts_of_the_attribution_sum_to_the_slope_of_the_answer(
    lmm: Any, batch: Batch, hookpoint: Hookpoint, sae: TopK, x: Tensor
) -> None:
    found = attribute(lmm, batch, hookpoint, sae)
    h = 1e-3
    up, down = (
        yes_no(lmm, batch, {hookpoint: lambda x, batch, s=s: x * (1 + s * h)}) for s in (1, -1)
    )
    parts = found.values.sum((1, 2)) + found.error.sum(1) + found.bias.sum(1)
    slope = (up - down) / (2 * h)
    torch.testing.assert_close(parts, slope, rtol=0.02, atol=0.02 * float(slope.abs().max()))


def test_several_layers_are_attributed_by_the_same_backward(
    lmm: Any, few: Batch, sae: TopK
) -> None:
    saes = {lmm.hookpoint(layer): sae for layer in (3, 1)}
    together = attribute_layers(lmm, few, saes)
    for hookpoint in saes:
        alone = attribute(lmm, few, hookpoint, sae)
        close(together[hookpoint].values, alone.values)
        close(together[hookpoint].error, alone.error)


def test_integrated_gradients_are_complete(
    lmm: Any, few: Batch, hookpoint: Hookpoint, sae: TopK
) -> None:
    found = integrate(lmm, few, hookpoint, sae, steps=8)
    ablated = yes_no(lmm, few, {hookpoint: steer(sae, torch.arange(64), 0.0)})
    torch.testing.assert_close(found.without, ablated, rtol=1e-3, atol=1e-2)
    plain = attribute(lmm, few, hookpoint, sae)
    missed = found.completeness_error * found.effect.abs()
    first_order = (plain.values.sum((1, 2)) - found.effect).abs()
    assert missed.sum() < 0.05 * found.effect.abs().sum()
    assert missed.sum() < 0.2 * first_order.sum()
