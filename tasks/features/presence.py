"""Where some latents are active on whole images, not only on those where they are strongest.

What other latents' masks, random images, negatives and maps over all images are taken from. Memory
is bounded by the chosen latents' active tokens on the chosen images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .choosing import kept_images
from .imageset import fingerprint
from .selection import Entries
from .stream import stream
from .study import living

if TYPE_CHECKING:
    from ...harness.task import Context
    from ..subject import Subject
    from .imageset import ImageSet
    from .selection import Floats, Ints
    from .study import Living

POOL = 100
"""Random images of the search set that a degenerate null draws from."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Some latents of one SAE on some images of a set."""

    latents: npt.NDArray[np.int64]
    """`(L,)` ascending."""
    images: npt.NDArray[np.int64]
    """`(M,)` indices within the set, ascending."""
    n_tokens: npt.NDArray[np.int64]
    """`(M,)` image tokens of each."""
    starts: npt.NDArray[np.int64]
    """`(L * M + 1,)` where each pair's tokens begin."""
    tokens: Ints
    values: Floats

    def active(self, latent: int, image: int) -> tuple[Ints, Floats]:
        """Active tokens and their values. Raises `KeyError` for what was not looked at."""
        at = _place(self.latents, latent) * len(self.images) + _place(self.images, image)
        rows = slice(self.starts[at], self.starts[at + 1])
        return self.tokens[rows], self.values[rows]

    def pooled(self, latent: int) -> npt.NDArray[np.float64]:
        """`(M,)` mean activation over each image's tokens."""
        first = _place(self.latents, latent) * len(self.images)
        starts = self.starts[first : first + len(self.images) + 1]
        sums = np.concatenate([[0.0], self.values[starts[0] : starts[-1]].cumsum(dtype=float)])
        return np.asarray(np.diff(sums[starts - starts[0]]) / np.maximum(self.n_tokens, 1))

    def on(self, image: int) -> list[int]:
        """The latents that are active anywhere on an image."""
        at = np.arange(len(self.latents)) * len(self.images) + _place(self.images, image)
        return [int(i) for i in self.latents[self.starts[at + 1] > self.starts[at]]]


def _place(sorted_ids: npt.NDArray[np.int64], wanted: int) -> int:
    at = int(np.searchsorted(sorted_ids, wanted))
    if at == len(sorted_ids) or sorted_ids[at] != wanted:
        raise KeyError(wanted)
    return at


def presence(
    context: Context[Subject], images: ImageSet, some: int | None = None
) -> list[Presence]:
    """The sampled latents of every SAE of the run on a set, or on `some` random images of it."""
    return presence_of(context, living(context), images, some)


def presence_of(
    context: Context[Subject], found: Sequence[Living], images: ImageSet, some: int | None = None
) -> list[Presence]:
    """The same of given latents."""
    kept = kept_images(context, images)
    chosen = [kept[i] for i in random_images(len(kept), some, context.seed)]
    key = {
        "version": 1,
        "lmm": context.subject.lmm.identity,
        "saes": [[one.sae.identity, one.sae.hookpoint.name] for one in found],
        "latents": [list(one.latents) for one in found],
        "images": [fingerprint(images), chosen],
    }
    return context.artefacts.get(
        "presence", key, lambda: _build(context, found, images, chosen), _save, _load
    )


def random_images(n: int, some: int | None, seed: int) -> list[int]:
    """`some` of `n` images, ascending; all of them without a number."""
    if some is None or some >= n:
        return list(range(n))
    rng = np.random.default_rng([seed, n, some])
    return sorted(int(i) for i in rng.choice(n, some, replace=False))


def _build(
    context: Context[Subject], found: Sequence[Living], images: ImageSet, chosen: Sequence[int]
) -> list[Presence]:
    parts: list[list[Entries]] = [[] for _ in found]
    counts: list[int] = []
    saes = [one.sae for one in found]
    for chunk in stream(context.subject.lmm, saes, images, context.progress, chosen):
        counts += [len(boxes) for boxes in chunk.boxes]
        for part, one, entries in zip(parts, found, chunk.entries, strict=True):
            part.append(entries.where(np.isin(entries.latents, one.latents)))
    return [
        _sorted(Entries.concatenate(part), one.latents, chosen, counts)
        for part, one in zip(parts, found, strict=True)
    ]


def _sorted(
    entries: Entries, latents: Sequence[int], chosen: Sequence[int], counts: Sequence[int]
) -> Presence:
    ids, images = np.asarray(latents, np.int64), np.asarray(chosen, np.int64)
    at = np.searchsorted(ids, entries.latents) * len(images)
    at += np.searchsorted(images, entries.images)
    order = np.lexsort((entries.tokens, at))
    sizes = np.bincount(at, minlength=len(ids) * len(images))
    starts = np.concatenate([[0], sizes.cumsum()]).astype(np.int64)
    tokens, values = entries.tokens[order], entries.values[order]
    return Presence(ids, images, np.asarray(counts, np.int64), starts, tokens, values)


def _save(found: Sequence[Presence], folder: Path) -> None:
    for i, one in enumerate(found):
        arrays: dict[str, Any] = {
            field.name: getattr(one, field.name) for field in fields(Presence)
        }
        np.savez(folder / f"{i:03d}.npz", **arrays)


def _load(folder: Path) -> list[Presence]:
    try:
        return [
            Presence(**np.load(path, allow_pickle=False)) for path in sorted(folder.glob("*.npz"))
        ]
    except BadZipFile as error:
        raise ValueError(f"{folder.name} is damaged") from error
