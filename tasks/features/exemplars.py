"""The survey of an image set: per latent its top images, some by deciles, how often it fires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .masks import has_place
from .selection import Entries, Floats, Gallery, Selector, TokenStore, random_deciles
from .stream import Chunk, stream

if TYPE_CHECKING:
    from ...harness.progress import Progress
    from ...sae.lmm import LMM
    from ...sae.topk import TrainedSae
    from .imageset import ImageSet
    from .masks import Boxes

MIN_IMAGES = 20
"""A latent is live when it fires on this many images of the search set."""
RATE_FLOOR = 0.3
"""... and its share of image tokens is at least this times k / n_latents."""
DENSE = 0.10
"""Above this share of image tokens a latent is flagged, not dropped."""
TOP = 5
"""Images a latent in each group: the paper's five."""
RESERVOIR = 24
"""Random images a latent that the deciles are drawn from."""


@dataclass(frozen=True, slots=True)
class Survey:
    """One SAE on one image set. All arrays are per latent unless said otherwise."""

    n_images: int
    n_tokens: int
    """Image tokens in all."""
    fired_images: npt.NDArray[np.int64]
    fired_tokens: npt.NDArray[np.int64]
    mass: npt.NDArray[np.float64]
    """Sum of activation over all image tokens."""
    maximum: Floats
    top: Gallery
    """The images with the highest mean activation over image tokens."""
    decile: Gallery
    """Other images on which the latent fires, each from another random decile of activation."""
    layouts: Sequence[Boxes]
    """The distinct box lists of the set."""
    layout_of: npt.NDArray[np.int32]
    """`(n_images,)` index into `layouts`."""

    @property
    def rate(self) -> npt.NDArray[np.float64]:
        """Share of image tokens on which each latent is active."""
        return np.asarray(self.fired_tokens / max(self.n_tokens, 1))

    @property
    def has_places(self) -> bool:
        """Whether image tokens look at parts of the image: a Q-Former's queries do not."""
        return any(has_place(boxes) for boxes in self.layouts)

    def boxes(self, image: int) -> Boxes:
        """Boxes of one image's tokens."""
        boxes: Boxes = self.layouts[self.layout_of[image]]
        return boxes


@dataclass(frozen=True, slots=True)
class Census:
    """Which latents of an SAE are worth asking about."""

    live: list[int]
    dead: int
    """Never active on an image token of the search set."""
    dense: list[int]
    """Live, and active on more than a tenth of the image tokens."""
    n_latents: int


def census(survey: Survey, k: int, rate_floor: float = RATE_FLOOR) -> Census:
    """Live, dead and dense latents by the search set.

    Args:
        k: active latents a token.
        rate_floor: least image-token rate of a live latent, in units of the mean, k / n_latents.
    """
    n = len(survey.fired_images)
    live = (survey.fired_images >= MIN_IMAGES) & (survey.rate >= rate_floor * k / n)
    dense = live & (survey.rate > DENSE)
    dead = int((survey.fired_tokens == 0).sum())
    return Census(np.flatnonzero(live).tolist(), dead, np.flatnonzero(dense).tolist(), n)


def sample_latents(live: Sequence[int], limit: int, seed: int) -> list[int]:
    """All live latents, or a seeded random sample of them, ascending."""
    if len(live) <= limit:
        return list(live)
    rng = np.random.default_rng([seed, len(live)])
    return sorted(int(i) for i in rng.choice(np.asarray(live), limit, replace=False))


def survey_images(
    lmm: LMM, saes: Sequence[TrainedSae], images: ImageSet, *, seed: int, progress: Progress
) -> list[Survey]:
    """One pass over the set, one forward a group for all SAEs; memory is latents x images kept.

    The same seed gives the same result whatever the grouping of images.
    """
    surveyors = [_Surveyor(sae.sae.n_latents, seed) for sae in saes]
    layouts = _Layouts()
    for chunk in stream(lmm, saes, images, progress):
        layouts.add(chunk)
        for surveyor, entries in zip(surveyors, chunk.entries, strict=True):
            surveyor.add(chunk, entries)
    return [surveyor.finish(layouts) for surveyor in surveyors]


class _Layouts:
    """Box lists of a set, each distinct one once."""

    def __init__(self) -> None:
        self.boxes: list[Boxes] = []
        self.of: list[int] = []
        self._known: dict[bytes, int] = {}

    def add(self, chunk: Chunk) -> None:
        for boxes in chunk.boxes:
            index = self._known.setdefault(boxes.tobytes(), len(self.boxes))
            if index == len(self.boxes):
                self.boxes.append(boxes)
            self.of.append(index)


class _Surveyor:
    """What one SAE keeps of the stream."""

    def __init__(self, n_latents: int, seed: int) -> None:
        self._n, self._seed = n_latents, seed
        self._top = Selector(n_latents, TOP)
        self._random = Selector(n_latents, RESERVOIR)
        self._store = TokenStore([self._top, self._random])
        self._fired_images = np.zeros(n_latents, np.int64)
        self._fired_tokens = np.zeros(n_latents, np.int64)
        self._mass = np.zeros(n_latents)
        self._maximum = np.zeros(n_latents, np.float32)
        self._n_tokens = 0

    def add(self, chunk: Chunk, entries: Entries) -> None:
        pooled = self._pooled(chunk, entries)
        self._count(chunk, entries, pooled)
        silent = pooled <= 0
        self._top.offer(np.where(silent, np.float32(-np.inf), pooled), pooled, chunk.images)
        lots = np.stack([self._lots(image) for image in chunk.images])
        self._random.offer(np.where(silent, np.float32(-np.inf), lots), pooled, chunk.images)
        self._store.add(entries)

    def finish(self, layouts: _Layouts) -> Survey:
        entries = self._store.entries()
        top = self._top.gallery(entries)
        decile = random_deciles(self._random.gallery(entries), top, TOP, self._seed)
        return Survey(
            n_images=len(layouts.of),
            n_tokens=self._n_tokens,
            fired_images=self._fired_images,
            fired_tokens=self._fired_tokens,
            mass=self._mass,
            maximum=self._maximum,
            top=top,
            decile=decile,
            layouts=layouts.boxes,
            layout_of=np.array(layouts.of, np.int32),
        )

    def _lots(self, image: np.int32) -> Floats:
        """A lot per latent, the same for an image in whichever group it comes."""
        return np.random.default_rng([self._seed, int(image)]).random(self._n, np.float32)

    def _pooled(self, chunk: Chunk, entries: Entries) -> Floats:
        """`(images, n_latents)`: mean activation over an image's tokens."""
        rows = np.searchsorted(chunk.images, entries.images)
        at = rows * self._n + entries.latents
        size = len(chunk.images) * self._n
        sums = np.bincount(at, entries.values, minlength=size).reshape(-1, self._n)
        counts = np.array([max(len(boxes), 1) for boxes in chunk.boxes])
        return np.asarray(sums / counts[:, None], np.float32)

    def _count(self, chunk: Chunk, entries: Entries, pooled: Floats) -> None:
        self._fired_images += (pooled > 0).sum(0)
        self._fired_tokens += np.bincount(entries.latents, minlength=self._n)
        self._mass += np.bincount(entries.latents, entries.values, minlength=self._n)
        np.maximum.at(self._maximum, entries.latents, entries.values)
        self._n_tokens += sum(len(boxes) for boxes in chunk.boxes)


def save_surveys(surveys: Sequence[Survey], folder: Path) -> None:
    """One npz a survey."""
    for i, survey in enumerate(surveys):
        np.savez(folder / f"{i:03d}.npz", **_arrays(survey))


def load_surveys(folder: Path) -> list[Survey]:
    """What `save_surveys` wrote."""
    return [_survey(_read(path)) for path in sorted(folder.glob("*.npz"))]


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except BadZipFile as error:
        raise ValueError(f"{path.name} is damaged") from error


_PLAIN = ("n_images", "n_tokens", "fired_images", "fired_tokens", "mass", "maximum", "layout_of")
_GALLERY = ("images", "pooled", "starts", "tokens", "values")


def _arrays(survey: Survey) -> dict[str, Any]:
    arrays: dict[str, Any] = {name: getattr(survey, name) for name in _PLAIN}
    for group in ("top", "decile"):
        gallery = getattr(survey, group)
        arrays |= {f"{group}.{name}": getattr(gallery, name) for name in _GALLERY}
    return arrays | {f"layout.{i}": boxes for i, boxes in enumerate(survey.layouts)}


def _survey(arrays: dict[str, npt.NDArray[Any]]) -> Survey:
    plain: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
    plain |= {name: int(arrays[name]) for name in ("n_images", "n_tokens")}
    for group in ("top", "decile"):
        plain[group] = Gallery(**{name: arrays[f"{group}.{name}"] for name in _GALLERY})
    n_layouts = sum(name.startswith("layout.") for name in arrays)
    return Survey(**plain, layouts=[arrays[f"layout.{i}"] for i in range(n_layouts)])
