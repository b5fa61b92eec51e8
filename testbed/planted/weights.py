"""SAEs of known worth for the planted subject: the true one, and spoilt ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...sae.lmm import Hookpoint
from ...sae.topk import TopK
from ..world.labels import PRIORS
from .dictionary import D_MODEL, FEATURES, planted, prior_latent
from .lmm import load_lmm

N_LATENTS = 512
"""The true features come first. The others are spare and never fire: the dead are known too."""
K = 10
"""As many as can be active on one token: a scene, an object, two each of the rest on a border."""
THRESHOLD = 1e-4
"""A latent is this much below its feature, so that rounding (1e-6) is never taken for activity."""
GUARD = 0.2
"""A spoilt encoder's threshold rises by this times the root of the corruption. Else any trace of
corruption made every latent fire by chance, and nothing would be left to fall gradually."""


def true_sae(hookpoint: str | int | Hookpoint, corruption: float = 0.0) -> TopK:
    """The SAE whose latent i is true feature i, or a spoilt copy of it.

    `corruption` from 0 to 1 is the share of a random direction in the encoder and decoder row of
    every feature. At 0 the reconstruction lacks nothing but the noise; at 1 nothing of D is left.
    """
    if not 0 <= corruption <= 1:
        raise ValueError(f"corruption is {corruption}, must be from 0 to 1")
    ref = hookpoint.name if isinstance(hookpoint, Hookpoint) else hookpoint
    random = _random_rows(load_lmm().hookpoint(ref).index)
    n = len(FEATURES)
    W_enc, W_dec = torch.zeros(N_LATENTS, D_MODEL), random.clone()
    W_enc[:n] = (1 - corruption) * planted().dual + corruption * random[:n]
    W_dec[:n] = normalize((1 - corruption) * planted().D + corruption * random[:n], dim=1)
    b_enc = torch.full((N_LATENTS,), -1.0)
    b_enc[:n] = -(THRESHOLD + GUARD * corruption**0.5)
    return TopK(W_enc, b_enc, W_dec, torch.zeros(D_MODEL), K)


def _random_rows(layer: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + layer)
    return normalize(torch.randn(N_LATENTS, D_MODEL, generator=generator), dim=1)


def causal_latents(topic: str) -> list[int]:
    """The true SAE's latents that make wrong answers about a thing: its priors', or none."""
    return [prior_latent(prior) for prior in PRIORS if prior.thing == topic]
