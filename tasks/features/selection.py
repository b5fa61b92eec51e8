"""Which images a latent keeps while a stream of images passes, and where it was active on them.

Memory is bounded by latents x images kept, whatever the length of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS_AT_ONCE, LATENTS_AT_ONCE = 1 << 17, 1 << 14
"""Compared or merged in one go: tens of MB, however much is kept."""

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entries:
    """Non-zero latents of some image tokens, one row each; images ascending."""

    latents: Ints
    images: Ints
    """Index within the image set."""
    tokens: Ints
    """Index within the image's boxes."""
    values: Floats

    def __len__(self) -> int:
        return len(self.latents)

    def where(self, kept: npt.NDArray[np.bool_]) -> Entries:
        """The rows of a mask."""
        return Entries(self.latents[kept], self.images[kept], self.tokens[kept], self.values[kept])

    @classmethod
    def concatenate(cls, parts: list[Entries]) -> Entries:
        """All rows, in order."""
        if not parts:
            none = np.zeros(0, np.int32)
            return cls(none, none, none, np.zeros(0, np.float32))
        return cls(
            np.concatenate([p.latents for p in parts]),
            np.concatenate([p.images for p in parts]),
            np.concatenate([p.tokens for p in parts]),
            np.concatenate([p.values for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class Gallery:
    """Up to K images a latent, best first, each with the latent's active tokens."""

    images: Ints
    """`(n_latents, K)` index within the image set; -1 = no more."""
    pooled: Floats
    """`(n_latents, K)` pooled activation."""
    starts: npt.NDArray[np.int64]
    """`(n_latents * K + 1,)` where each image's tokens begin."""
    tokens: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.images)

    def count(self, latent: int) -> int:
        """How many images the latent has."""
        return int((self.images[latent] >= 0).sum())

    def active(self, latent: int, slot: int) -> tuple[Ints, Floats]:
        """Active tokens and their values on one image."""
        at = latent * self.images.shape[1] + slot
        rows = slice(self.starts[at], self.starts[at + 1])
        return self.tokens[rows], self.values[rows]

    def take(self, slots: npt.NDArray[np.integer]) -> Gallery:
        """Only the chosen slots, `(n_latents, m)` with -1 for none, in that order."""
        rows = np.arange(len(self))[:, None]
        none = slots < 0
        at = np.where(none, 0, rows * self.images.shape[1] + slots).ravel()
        lengths = np.where(none.ravel(), 0, self.starts[at + 1] - self.starts[at])
        starts = np.concatenate([[0], lengths.cumsum()])
        source = np.repeat(self.starts[at] - starts[:-1], lengths) + np.arange(starts[-1])
        return Gallery(
            np.where(none, -1, self.images[rows, slots]).astype(np.int32),
            np.where(none, 0, self.pooled[rows, slots]).astype(np.float32),
            starts.astype(np.int64),
            self.tokens[source],
            self.values[source],
        )


class Selector:
    """Per latent the K images with the highest key; the earlier image wins a tie."""

    def __init__(self, n_latents: int, size: int) -> None:
        self.keys = np.full((n_latents, size), -np.inf, np.float32)
        self.images = np.full((n_latents, size), -1, np.int32)
        self.pooled = np.zeros((n_latents, size), np.float32)

    def offer(self, keys: Floats, pooled: Floats, images: Ints) -> None:
        """Consider a batch.

        Args:
            keys: `(batch, n_latents)`; -inf where the image is no candidate.
            pooled: `(batch, n_latents)` activation, kept along.
            images: `(batch,)` ascending.
        """
        better = np.flatnonzero((keys > self.keys[:, -1]).any(0))
        for start in range(0, len(better), LATENTS_AT_ONCE):
            self._merge(better[start : start + LATENTS_AT_ONCE], keys, pooled, images)

    def _merge(
        self, rows: npt.NDArray[np.int64], keys: Floats, pooled: Floats, images: Ints
    ) -> None:
        merged = np.concatenate([self.keys[rows], keys[:, rows].T], axis=1)
        order = np.argsort(-merged, axis=1, kind="stable")[:, : self.keys.shape[1]]
        self.keys[rows] = np.take_along_axis(merged, order, 1)
        self.images[rows] = _merge(self.images[rows], np.tile(images, (len(rows), 1)), order)
        self.pooled[rows] = _merge(self.pooled[rows], pooled[:, rows].T, order)

    def slots(self, entries: Entries) -> npt.NDArray[np.int16]:
        """`(rows,)` the place of each row's image among those still kept; -1 for none."""
        found = np.empty(len(entries), np.int16)
        for start in range(0, len(entries), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            same = self.images[entries.latents[some]] == entries.images[some, None]
            found[some] = np.where(same.any(1), same.argmax(1), -1)
        return found

    def gallery(self, entries: Entries) -> Gallery:
        """The images kept, with their tokens out of `entries`."""
        slots = self.slots(entries)
        entries, slot = entries.where(slots >= 0), slots[slots >= 0]
        size = self.images.shape[1]
        at = entries.latents.astype(np.int64) * size + slot
        order = np.lexsort((entries.tokens, at))
        counts = np.bincount(at, minlength=self.images.size)
        starts = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        tokens, values = entries.tokens[order], entries.values[order]
        return Gallery(self.images, self.pooled, starts, tokens, values)


def _merge(
    a: npt.NDArray[Any], b: npt.NDArray[Any], order: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    return np.take_along_axis(np.concatenate([a, b], axis=1), order, 1)


class TokenStore:
    """Token rows of kept images; those of images that fell out are swept when they are many."""

    def __init__(self, selectors: list[Selector]) -> None:
        self._selectors = selectors
        self._parts: list[Entries] = []
        self._size = 0
        self._limit = 1 << 16

    def add(self, entries: Entries) -> None:
        """Keep the rows whose image was just selected."""
        kept = self._kept(entries)
        self._parts.append(kept)
        self._size += len(kept)
        if self._size > self._limit:
            self._sweep()

    def entries(self) -> Entries:
        """All rows of kept images."""
        self._sweep()
        return self._parts[0]

    def _kept(self, entries: Entries) -> Entries:
        held = np.zeros(len(entries), np.bool_)
        for selector in self._selectors:
            held |= selector.slots(entries) >= 0
        return entries.where(held)

    def _sweep(self) -> None:
        kept = self._kept(Entries.concatenate(self._parts))
        self._parts, self._size = [kept], len(kept)
        self._limit = max(1 << 16, 2 * self._size)


def random_deciles(gallery: Gallery, top: Gallery, n: int, seed: int) -> Gallery:
    """Up to `n` images a latent from as many different activation deciles, without its top images.

    `gallery` is a uniform random sample of the images on which a latent fires; its ranks by pooled
    activation stand for the deciles of all of them.
    """
    slots = np.full((len(gallery), n), -1, np.int64)
    for latent in np.flatnonzero(gallery.images[:, 0] >= 0):
        rng = np.random.default_rng([seed, int(latent)])
        images = gallery.images[latent]
        free = np.flatnonzero((images >= 0) & ~np.isin(images, top.images[latent]))
        ranked = free[np.lexsort((images[free], -gallery.pooled[latent, free]))]
        decile = np.arange(len(ranked)) * 10 // max(len(ranked), 1)
        groups = [ranked[decile == d] for d in np.unique(decile)]
        chosen = np.sort(rng.permutation(len(groups))[:n])
        picked = [int(rng.choice(groups[g])) for g in chosen]
        slots[latent, : len(picked)] = picked
    return gallery.take(slots)
