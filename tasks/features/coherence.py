"""How coherent a latent is, without any explanation: over images, and over an image's patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .selection import Floats, Ints

Vector = npt.NDArray[np.floating]

MIN_ACTIVE = 5
"""Patches that must be active on an image for its map to say anything ..."""
MAX_ACTIVE = 0.9
"""... and the share of them above which it is nearly constant."""


def monosemanticity(activation: Vector, embeddings: Vector) -> tuple[float, float] | None:
    """Similarity of the images that a latent fires on, and what a permutation would give.

    MS = sum over pairs of a_i a_j cos(E_i, E_j) / sum over pairs of a_i a_j, with a scaled to 0..1,
    in the closed form that is linear in images: (|sum a E|^2 - sum a^2) / ((sum a)^2 - sum a^2).
    With a permuted at random its mean over all permutations is the mean cosine of two images.
    None for a latent that fires on fewer than two images alike.

    Args:
        activation: `(images,)`, pooled over each image.
        embeddings: `(images, d)` unit rows of a model that knows nothing of the SAE.
    """
    low, high = float(activation.min()), float(activation.max())
    if high <= low:
        return None
    a = (activation.astype(float) - low) / (high - low)
    square = float((a**2).sum())
    pairs = float(a.sum()) ** 2 - square
    if pairs <= 1e-12:
        return None
    score = (float(((a @ embeddings.astype(float)) ** 2).sum()) - square) / pairs
    return score, mean_cosine(embeddings)


def mean_cosine(embeddings: Vector) -> float:
    """Of two different rows, all unit vectors, on average."""
    n = len(embeddings)
    total = float((embeddings.astype(float).sum(0) ** 2).sum())
    return (total - n) / (n * (n - 1))


def activation_map(tokens: Ints, values: Floats, grid: tuple[int, int]) -> Vector:
    """`(rows, columns)` of the base view; tokens of tiles are left out."""
    found = np.zeros(grid[0] * grid[1])
    base = tokens < found.size
    found[tokens[base]] = values[base]
    return found.reshape(grid)


def moran(patches: Vector) -> float | None:
    """Moran's I of a map with the 8 neighbours as weights; None for one that is nearly constant.

    The nearer to 1 the smoother; about -1 / (patches - 1) for patches in random places, and below
    that for a chess board.
    """
    n_active = int(np.count_nonzero(patches))
    if n_active < MIN_ACTIVE or n_active > MAX_ACTIVE * patches.size:
        return None
    z = patches - patches.mean()
    spread = float((z**2).sum())
    if spread <= 1e-12:
        return None
    products, weights = 0.0, 0
    # Half of the neighbours: each pair is met once, and both sums double alike.
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a, b = _shifted(z, down, right)
        products += float((a * b).sum())
        weights += a.size
    return patches.size / weights * products / spread


def _shifted(z: Vector, down: int, right: int) -> tuple[Vector, Vector]:
    rows, columns = z.shape
    if right < 0:
        return z[: rows - down, -right:], z[down:, :right]
    return z[: rows - down, : columns - right], z[down:, right:]
