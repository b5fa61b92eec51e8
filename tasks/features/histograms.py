"""How strongly each latent fires, counted exactly in one pass without knowing the range before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .selection import Entries

BINS = 32
"""Equal ones a latent, from 0 to the power of two above its maximum: half of them at least are
below the maximum."""

_NONE = -100
"""The octave of a latent that has not fired: below whatever an SAE can mean."""
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Strengths:
    """Of every latent of an SAE, its activations above 0 in equal bins."""

    counts: Counts
    """`(n_latents, BINS)` image tokens."""
    octave: npt.NDArray[np.int32]
    """`(n_latents,)` its bins end at 2 to this power; without a meaning for a dead latent."""

    def of(self, latent: int) -> tuple[list[float], list[int]]:
        """Edges and counts up to the last bin that holds anything; nothing for a dead latent."""
        filled = np.flatnonzero(self.counts[latent])
        if not filled.size:
            return [], []
        used = int(filled[-1]) + 1
        edges = np.ldexp(np.arange(used + 1) / BINS, int(self.octave[latent]))
        return edges.tolist(), self.counts[latent, :used].tolist()


class StrengthCounter:
    """Counts `Strengths` while entries stream by; memory is latents x bins.

    Where a latent fires more strongly than ever before, its range is doubled and its bins are
    joined in pairs. Ranges are powers of two, so a value's place in the end is the same whatever
    came before it: counts are exact and don't depend on the order.
    """

    def __init__(self, n_latents: int) -> None:
        self.counts = np.zeros((n_latents, BINS), np.int64)
        self.octave = np.full(n_latents, _NONE, np.int32)

    def add(self, entries: Entries, maximum: npt.NDArray[np.float32]) -> None:
        """Count some values.

        Args:
            maximum: `(n_latents,)` of all values so far, these included.
        """
        self._widen(maximum)
        scale = np.ldexp(np.float32(BINS), -self.octave)
        # A broken model's infinities belong to the last bin, not to another latent.
        places = np.minimum(entries.values * scale[entries.latents], BINS - 1).astype(np.int64)
        places += entries.latents.astype(np.int64) * BINS
        self.counts += np.bincount(places, minlength=self.counts.size).reshape(self.counts.shape)

    def _widen(self, maximum: npt.NDArray[np.float32]) -> None:
        wanted = np.where(maximum > 0, np.frexp(maximum)[1], _NONE)
        doublings = np.where(self.octave > _NONE, wanted - self.octave, 0)
        while (rows := np.flatnonzero(doublings > 0)).size:
            pairs = self.counts[rows].reshape(len(rows), BINS // 2, 2).sum(2)
            self.counts[rows] = np.concatenate([pairs, np.zeros_like(pairs)], 1)
            doublings[rows] -= 1
        self.octave = np.maximum(self.octave, wanted).astype(np.int32)
