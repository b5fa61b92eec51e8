"""Integrated gradients over latents: attribution whose sum is the whole effect, not its first
order. Source: Sundararajan et al. 2017 (arXiv:1703.01365), over SAE latents as in Marks et al. 2024
(arXiv:2403.19647).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .attribution import Attribution, explained
from .lmm import LMM, Batch, Hook, Hookpoint
from .residual import capture, yes_no
from .sae import SAE
from .tokens import token_mask

STEPS = 32
"""Points of the path, Gauss-Legendre's: a transformer's answer is not smooth along it, and with
half as many some sums are off by a tenth.
"""


@dataclass(frozen=True)
class Integrated:
    """Attribution by the mean gradient between no latent and all of them.

    The error term stays where it is, and so does the support: the latents that fire on the clean
    stream are scaled from 0 to their values. `attribution.error` and `.bias` are the error's and
    b_dec's share of the same mean gradient; they are no part of what is complete.
    """

    attribution: Attribution
    without: Tensor
    """`(batch,)`: m with no latent left."""

    @property
    def effect(self) -> Tensor:
        """`(batch,)`: what all latents together do to m, exactly."""
        return self.attribution.metric - self.without

    @property
    def completeness_error(self) -> Tensor:
        """`(batch,)`: |sum of A - effect| / |effect|, 0 when the path was followed exactly."""
        total = self.attribution.values.sum((1, 2))
        return (total - self.effect).abs() / self.effect.abs().clamp_min(1e-12)


def integrate(
    lmm: LMM,
    batch: Batch,
    hookpoint: Hookpoint,
    sae: SAE,
    steps: int = STEPS,
    words: tuple[str, str] = ("yes", "no"),
) -> Integrated:
    """`attribute` by integrated gradients: `steps` forwards and backwards, and three forwards.

    Raises `ValueError` for a word that isn't one entry of the vocabulary, or less than one step.
    """
    stream = capture(lmm, batch, [hookpoint])[hookpoint]
    with torch.no_grad():
        part = _latents_part(sae, stream, batch)
        ends = [
            yes_no(lmm, batch, {hookpoint: _fixed(stream - share * part)}, words)
            for share in (0.0, 1.0)
        ]
    gradient = torch.zeros_like(stream)
    for place, weight in _points(steps):
        leaf = (stream - (1 - place) * part).requires_grad_()
        with torch.enable_grad():
            metric = yes_no(lmm, batch, {hookpoint: _fixed(leaf)}, words)
            gradient += weight * torch.autograd.grad(metric.sum(), leaf)[0]
    found = explained(sae, stream, gradient, batch, ends[0])
    return Integrated(found, ends[1])


def _latents_part(sae: SAE, stream: Tensor, batch: Batch) -> Tensor:
    """dec(z) without its bias, where an SAE edits."""
    inside = token_mask(batch.kinds, "all").to(stream.device)
    part = torch.zeros_like(stream)
    part[inside] = (sae.reconstruct(stream[inside]) - sae.b_dec).to(stream.dtype)
    return part


def _fixed(stream: Tensor) -> Hook:
    return lambda x, batch: stream


def _points(steps: int) -> list[tuple[float, float]]:
    """Places in 0..1 and weights that sum to 1."""
    import numpy as np

    if steps < 1:
        raise ValueError(f"integrated gradients need at least one step, not {steps}")
    places, weights = np.polynomial.legendre.leggauss(steps)
    return [(float(p + 1) / 2, float(w) / 2) for p, w in zip(places, weights, strict=True)]
