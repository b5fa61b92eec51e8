"""Labels without any LMM: CLIP-Dissect's soft-WPMI over a vocabulary (Oikarinen & Weng, 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .clip_scores import clip_space
from .explain import Explanation
from .presence import presence_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...harness.task import Context
    from ..subject import Subject
    from .study import Living

    Table = npt.NDArray[np.float64]

TOP_K = 100
"""Images a latent that its label is read off: those where it is most active."""
SHARPNESS = 10.0
LAMBDA = 1.0
"""Weight of how well a label fits the other latents' images too."""
FIRST, LAST = 0.998, 0.97
"""How sure it is that the latent's concept is on its first and on its last image."""


def soft_wpmi(pooled: Table, cosines: Table) -> Table:
    """`(latents, labels)`: log p(label | the latent's top images) - log p(label).

    log p(label | images) = sum over ranks of log(1 + p_r (s - 1)), with s the softmax over labels
    of `SHARPNESS` times cosine, and p_r falling from `FIRST` to `LAST`; p(label) is its mean over
    latents.

    Args:
        pooled: `(latents, images)` activations.
        cosines: `(images, labels)` of CLIP.
    """
    scaled = SHARPNESS * cosines
    soft = np.exp(scaled - scaled.max(1, keepdims=True))
    soft /= soft.sum(1, keepdims=True)
    n = min(TOP_K, pooled.shape[1])
    top = np.argsort(-pooled, axis=1, kind="stable")[:, :n]
    sure = np.linspace(FIRST, LAST, n)[:, None]
    given = np.stack([np.log1p(sure * (soft[rows] - 1)).sum(0) for rows in top])
    high = given.max(0)
    prior = high + np.log(np.exp(given - high).mean(0))
    return np.asarray(given - LAMBDA * prior)


def soft_wpmi_labels(
    context: Context[Subject], living_: Sequence[Living]
) -> list[list[Explanation]]:
    """The best label of the image set's vocabulary for every sampled latent."""
    images, vocabulary = context.subject.search, context.subject.provider.vocabulary
    space, labels = clip_space(context, held_out=False), list(vocabulary)
    found = []
    for where in presence_of(context, living_, images):
        cosines = (space.images(where.images.tolist()) @ space.labels(labels).T).astype(float)
        pooled = [where.pooled(int(i)) for i in where.latents]
        scores = soft_wpmi(np.stack(pooled), cosines) if pooled else ()
        found.append([_explanation(row, labels, vocabulary) for row in scores])
    return found


def _explanation(row: Table, labels: Sequence[str], vocabulary: Mapping[str, str]) -> Explanation:
    best = int(np.argmax(row))
    label = labels[best]
    return Explanation(
        "ok", label, label, vocabulary[label], detail={"soft_wpmi": round(float(row[best]), 4)}
    )
