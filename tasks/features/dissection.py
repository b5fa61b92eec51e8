"""Dataset IoU of every latent with every label, streamed (Network Dissection, Bau et al. 2017).

Intersections and areas are summed over all images before they are divided. A latent's mask at a
threshold is the set of tokens above that share of its maximum on the search set. Every pixel
belongs to one token, so pixel sums are exact without drawing a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .masks import nearest, pixel_boxes
from .stream import stream

if TYPE_CHECKING:
    from ...harness.progress import Progress
    from ...sae.lmm import LMM
    from ...sae.topk import TrainedSae
    from .imageset import ImageSet
    from .masks import Boxes
    from .selection import Entries, Floats

Sums = npt.NDArray[np.float64]
Owner = npt.NDArray[np.int64]

THRESHOLDS = (0.0, 0.1, 0.2, 0.35, 0.5)
"""Shares of a latent's maximum activation on the search set."""
LABELS_OF = ("own", "other")
"""An image's own label maps, and those of the next image of the set: the shuffled control."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pixel sums of some latents of one SAE; even images are the first half, odd the second."""

    inside: Sums
    """`(own|other, half, latents, thresholds, labels)` pixels both active and of the label."""
    active: Sums
    """`(half, latents, thresholds)` active pixels."""
    truth: Sums
    """`(own|other, half, labels)` pixels of the label."""

    def iou(self, row: int) -> Sums:
        """`(own|other, half, thresholds, labels)` dataset IoU of a latent; 0 where nothing is."""
        inside = self.inside[:, :, row]
        union = self.active[None, :, row, :, None] + self.truth[:, :, None, :] - inside
        return np.asarray(inside / np.maximum(union, 1))


@dataclass(frozen=True, slots=True)
class Detector:
    """What a latent detects best."""

    label: int
    """Index of the label picked on the first half."""
    threshold: float
    iou: float
    """Of the pick of each half on the other half, averaged."""


def detector(halves: Sums) -> Detector:
    """Picks label and threshold on one half of the images and scores them on the other, both ways.

    Args:
        halves: `(2, thresholds, labels)` dataset IoU of one latent.
    """
    first, second = (np.unravel_index(int(half.argmax()), half.shape) for half in halves)
    held_out = (float(halves[1][first]) + float(halves[0][second])) / 2
    return Detector(int(first[1]), THRESHOLDS[int(first[0])], held_out)


def dissect(
    lmm: LMM,
    saes: Sequence[TrainedSae],
    images: ImageSet,
    latents: Sequence[Sequence[int]],
    maxima: Sequence[Floats],
    progress: Progress,
) -> list[Overlaps]:
    """One pass over the images for all SAEs; memory is latents x thresholds x labels.

    Args:
        latents: per SAE those to look at.
        maxima: per SAE `(n_latents,)`, the activation that thresholds are shares of.
    """
    counters = [
        _Counter(np.asarray(ids, np.int64), maximum, len(images.vocabulary))
        for ids, maximum in zip(latents, maxima, strict=True)
    ]
    cover = _Cover(images)
    for chunk in stream(lmm, saes, images, progress):
        for i, boxes in zip(chunk.images.tolist(), chunk.boxes, strict=True):
            owner = cover.owner(boxes, images.size_of(i))
            area = np.bincount(owner.ravel(), minlength=len(boxes) + 1)
            tables = [cover.counts(j, boxes, owner) for j in (i, (i + 1) % len(images))]
            for counter, entries in zip(counters, chunk.entries, strict=True):
                counter.add(i % 2, entries.where(entries.images == i), tables, area)
    return [Overlaps(one.inside, one.active, one.truth) for one in counters]


class _Cover:
    """How many pixels of each label each token of an image has."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._owner: tuple[tuple[int, int], bytes, Owner] = ((0, 0), b"", np.zeros(0, np.int64))
        self._recent: dict[tuple[int, bytes], Sums] = {}

    def owner(self, boxes: Boxes, size: tuple[int, int]) -> Owner:
        """`(height, width)` the token of each pixel: the last box around it, else n_tokens."""
        if self._owner[:2] != (size, boxes.tobytes()):
            width, height = size
            owner = np.full((height, width), len(boxes))
            for token, (x0, y0, x1, y1) in enumerate(pixel_boxes(boxes).clip(0)):
                owner[y0:y1, x0:x1] = token
            self._owner = (size, boxes.tobytes(), owner)
        return self._owner[2]

    def counts(self, index: int, boxes: Boxes, owner: Owner) -> Sums:
        """`(n_tokens + 1, n_labels)`, labels as in the vocabulary; the last row is no token's.

        An image of another size than `owner` is brought to it.
        """
        key = (index, boxes.tobytes())
        if key not in self._recent:
            # The image after next is never asked for, and the one before never again.
            self._recent = {k: v for k, v in self._recent.items() if k[0] == index - 1}
            self._recent[key] = self._counted(index, len(boxes) + 1, owner)
        return self._recent[key]

    def _counted(self, index: int, n: int, owner: Owner) -> Sums:
        columns: dict[str, Sums] = {}
        for concept, labels in self._images.label_maps(index).items():
            names = self._images.labels[concept]
            at = owner * (len(names) + 1) + nearest(labels, (owner.shape[1], owner.shape[0]))
            table = np.bincount(at.ravel(), minlength=n * (len(names) + 1)).reshape(n, -1)
            columns |= {name: table[:, i + 1].astype(float) for i, name in enumerate(names)}
        return np.stack([columns[label] for label in self._images.vocabulary], 1)


class _Counter:
    """The sums of one SAE's latents."""

    def __init__(self, latents: npt.NDArray[np.int64], maximum: Floats, n_labels: int) -> None:
        self._row = np.full(len(maximum), -1)
        self._row[latents] = np.arange(len(latents))
        self._levels = maximum[latents, None] * np.array(THRESHOLDS, np.float32)
        shape = (len(latents), len(THRESHOLDS))
        self.inside = np.zeros((2, 2, *shape, n_labels))
        self.active = np.zeros((2, *shape))
        self.truth = np.zeros((2, 2, n_labels))

    def add(
        self,
        half: int,
        entries: Entries,
        tables: Sequence[Sums],
        area: npt.NDArray[np.int64],
    ) -> None:
        """One image: its non-zero latents, both tables of labels, pixels per token."""
        entries = entries.where(self._row[entries.latents] >= 0)
        rows, place = np.unique(self._row[entries.latents], return_inverse=True)
        values = np.zeros((len(rows), len(area)))
        values[place, entries.tokens] = entries.values
        above = (values[:, None, :] > self._levels[rows][:, :, None]).astype(float)
        self.active[half, rows] += above @ area
        for source, table in enumerate(tables):
            self.truth[source, half] += table.sum(0)
            self.inside[source, half, rows] += above @ table


def save_overlaps(overlaps: Sequence[Overlaps], folder: Path) -> None:
    """One npz an SAE."""
    for i, one in enumerate(overlaps):
        np.savez(folder / f"{i:03d}.npz", inside=one.inside, active=one.active, truth=one.truth)


def load_overlaps(folder: Path) -> list[Overlaps]:
    """What `save_overlaps` wrote."""
    try:
        return [
            Overlaps(**np.load(path, allow_pickle=False)) for path in sorted(folder.glob("*.npz"))
        ]
    except BadZipFile as error:
        raise ValueError(f"{folder.name} is damaged") from error
