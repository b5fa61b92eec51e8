"""The true features: their names, their directions, and where the noise lives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..world.labels import INDEX, PRIORS, VOCABULARY, Prior

D_MODEL = 128
N_LAYERS = 3
NOISE = (0.2, 0.1, 0.05)
"""Standard deviation after each layer, per direction outside D: deeper is cleaner."""
BOS_NORM = 10.0
"""Length of BOS's residual, along a direction of its own: an outlier, as in real models."""
TILT = 0.02
"""Standard deviation of what is added to orthogonal rows, so that D is only nearly orthogonal."""
SEED = 20

SEEN, UNSEEN, NAMING, UNCLEAR = "seen", "unseen", "naming", "unclear"

FEATURES: tuple[str, ...] = (
    *VOCABULARY,
    SEEN,
    UNSEEN,
    NAMING,
    UNCLEAR,
    *(f"prior: {prior.thing} in the {prior.scene}" for prior in PRIORS),
)
"""Names of the true features, in the order of D's rows."""

_PLACE = {name: i for i, name in enumerate(FEATURES)}


def feature(name: str) -> int:
    """The row of a feature that is no label: `seen`, `unseen`, `naming`, `unclear`."""
    return _PLACE[name]


def label_latent(label: str) -> int:
    """The latent of a label of the world."""
    return INDEX[label]


def prior_latent(prior: Prior) -> int:
    """The latent of a planted prior."""
    return _PLACE[f"prior: {prior.thing} in the {prior.scene}"]


@dataclass(frozen=True)
class Planted:
    """Directions of the residual stream. float32, on the CPU."""

    D: Tensor
    """`(n_features, d_model)`: unit rows, cosines between them below .1."""
    dual: Tensor
    """`(n_features, d_model)`: `dual @ D.T` is the identity, so it reads z exactly off `z @ D`."""
    noise: Tensor
    """`(n_noise, d_model)`: orthonormal, orthogonal to D and so to `dual`."""
    bos: Tensor
    """`(d_model,)`: a unit vector orthogonal to all others."""


@cache
@torch.inference_mode(False)
def planted() -> Planted:
    """The dictionary; the same one on every call and in every process.

    Whoever asks first, its tensors can be differentiated through later.
    """
    rng = np.random.default_rng(SEED)
    n = len(FEATURES)
    square, _ = np.linalg.qr(rng.standard_normal((D_MODEL, D_MODEL)))
    rows = square[:n] + TILT * rng.standard_normal((n, D_MODEL))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    outside = np.linalg.qr(rows.T, mode="complete")[0][:, n:].T
    return Planted(
        _float(rows), _float(np.linalg.pinv(rows).T), _float(outside[:-1]), _float(outside[-1])
    )


def _float(array: npt.NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
