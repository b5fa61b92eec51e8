"""Conventions of other trainers, folded into weights so that `reconstruct(x)` stays what it was.

Parts are `W_enc (n, d)`, `b_enc (n)`, `W_dec (n, d)`, `b_dec (d)` in float64, and what the
architecture adds. The SAE that they make is act(W_enc (x - b_dec) + b_enc) W_dec + b_dec. Where
pre-activations stay what they are, so do thresholds.
"""

from __future__ import annotations

import torch
from torch import Tensor

Parts = dict[str, Tensor]


def input_bias(parts: Parts) -> Parts:
    """From an encoder that reads x itself to one that reads x - b_dec."""
    return _shifted(parts, parts["W_enc"] @ parts["b_dec"])


def no_input_bias(parts: Parts) -> Parts:
    """The way back: to an encoder that reads x itself."""
    return _shifted(parts, -(parts["W_enc"] @ parts["b_dec"]))


def _shifted(parts: Parts, shift: Tensor) -> Parts:
    moved = {"b_enc": parts["b_enc"] + shift}
    if "b_mag" in parts:  # of a gated SAE
        moved["b_mag"] = parts["b_mag"] + parts["r_mag"].exp() * shift
    return parts | moved


def unit_decoder(parts: Parts) -> Parts:
    """From latents that are scaled by the norm of their decoder rows to rows of norm 1."""
    norms = torch.linalg.vector_norm(parts["W_dec"], dim=1).clamp_min(1e-8)
    return parts | {
        "W_enc": parts["W_enc"] * norms[:, None],
        "b_enc": parts["b_enc"] * norms,
        "W_dec": parts["W_dec"] / norms[:, None],
    }


def input_scale(parts: Parts, scale: float) -> Parts:
    """From an SAE of `scale * x`, whose output is divided by `scale`, to one of x."""
    return parts | {
        "W_enc": parts["W_enc"] * scale,
        "W_dec": parts["W_dec"] / scale,
        "b_dec": parts["b_dec"] / scale,
    }


def input_whitening(parts: Parts, mean: Tensor, matrix: Tensor, inverse: Tensor) -> Parts:
    """From an SAE of z = (x - mean) M, whose output is mapped back by the inverse, to one of x.

    z - b_dec = (x - mean - b_dec M^-1) M: the new b_dec is what x loses.
    """
    return parts | {
        "W_enc": parts["W_enc"] @ matrix.T,
        "W_dec": parts["W_dec"] @ inverse,
        "b_dec": parts["b_dec"] @ inverse + mean,
    }
