"""What one SAE keeps while images stream by, and how it ranks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from .histograms import StrengthCounter, Strengths
from .masks import has_place
from .selection import Entries, Floats, Gallery, Selector, TokenStore, random_deciles
from .stream import Chunk

if TYPE_CHECKING:
    from .masks import Boxes

Pooling = Literal["mean", "max", "p99"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "p99")
TOP = 5
"""Images a latent in each group: the paper's five."""
RESERVOIR = 24
"""Random images a latent that the deciles are drawn from."""
_UPPER = 0.99


@dataclass(frozen=True, slots=True)
class Looking:
    """How an image's activations become its rank."""

    pooling: Pooling = "mean"
    """Over all its image tokens, silent ones included: `mean` (the paper) prefers what is large,
    `max` what is strong anywhere, `p99` what is strong on a hundredth of the picture."""
    base_only: bool = False
    """Tokens of the base view alone, as the paper has it: those of tiles count for nothing."""

    def key(self) -> dict[str, Any]:
        """What an artefact depends on; empty for the default."""
        return {} if self == LOOKING else {"pooling": self.pooling, "base_only": self.base_only}


LOOKING = Looking()


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
    strengths: Strengths
    """How often each latent fires how strongly, over all image tokens."""
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


class Layouts:
    """Box lists of a set of `n` images, each distinct one once."""

    def __init__(self, n: int) -> None:
        self.boxes: list[Boxes] = []
        self.of = np.zeros(n, np.int32)
        self.seen = 0
        self._known: dict[bytes, int] = {}

    def add(self, chunk: Chunk) -> None:
        for image, boxes in zip(chunk.images, chunk.boxes, strict=True):
            self.of[image] = self._place(boxes)
        self.seen += len(chunk.images)

    def _place(self, boxes: Boxes) -> int:
        index = self._known.setdefault(boxes.tobytes(), len(self.boxes))
        if index == len(self.boxes):
            self.boxes.append(boxes)
        return index

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it, to be stored."""
        boxes = {f"boxes.{i}": boxes for i, boxes in enumerate(self.boxes)}
        return {"of": self.of, "seen": np.array(self.seen), **boxes}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """As it was when `arrays` was called."""
        self.of, self.seen = arrays["of"].astype(np.int32), int(arrays["seen"])
        for i in range(sum(name.startswith("boxes.") for name in arrays)):
            self._place(arrays[f"boxes.{i}"])


class Surveyor:
    """What one SAE keeps of the stream."""

    def __init__(self, n_latents: int, seed: int, pooling: Pooling = "mean") -> None:
        if pooling not in POOLINGS:
            raise UsageError(f"no pooling {pooling!r}; choose {', '.join(POOLINGS)}")
        self._n, self._seed, self._pooling = n_latents, seed, pooling
        self._top = Selector(n_latents, TOP)
        self._random = Selector(n_latents, RESERVOIR)
        self._store = TokenStore([self._top, self._random])
        self._fired_images = np.zeros(n_latents, np.int64)
        self._fired_tokens = np.zeros(n_latents, np.int64)
        self._mass = np.zeros(n_latents)
        self._maximum = np.zeros(n_latents, np.float32)
        self._strengths = StrengthCounter(n_latents)
        self._n_tokens = 0

    def add(self, chunk: Chunk, entries: Entries) -> None:
        rows = np.searchsorted(chunk.images, entries.images)
        at = rows * self._n + entries.latents
        counts = np.array([max(len(boxes), 1) for boxes in chunk.boxes])
        pooled = self._pooled(at, entries.values, counts)
        fired = np.zeros(pooled.shape, np.bool_)
        fired.ravel()[at] = True
        self._count(chunk, entries, fired)
        # An image on which the latent fires is a candidate, even where p99 says 0.
        silent = ~fired
        self._top.offer(np.where(silent, np.float32(-np.inf), pooled), pooled, chunk.images)
        lots = np.stack([self._lots(image) for image in chunk.images])
        self._random.offer(np.where(silent, np.float32(-np.inf), lots), pooled, chunk.images)
        self._store.add(entries)

    def finish(self, layouts: Layouts) -> Survey:
        entries = self._store.entries()
        top = self._top.gallery(entries)
        decile = random_deciles(self._random.gallery(entries), top, TOP, self._seed)
        return Survey(
            n_images=layouts.seen,
            n_tokens=self._n_tokens,
            fired_images=self._fired_images,
            fired_tokens=self._fired_tokens,
            mass=self._mass,
            maximum=self._maximum,
            strengths=Strengths(self._strengths.counts, self._strengths.octave),
            top=top,
            decile=decile,
            layouts=layouts.boxes,
            layout_of=layouts.of,
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it, to be stored."""
        entries = self._store.entries()
        arrays: dict[str, Any] = {name: getattr(entries, name) for name in _ENTRIES}
        for name in ("top", "random"):
            selector = getattr(self, f"_{name}")
            arrays |= {f"{name}.{part}": getattr(selector, part) for part in _SELECTED}
        arrays |= {name: getattr(self, f"_{name}") for name in _COUNTS}
        arrays |= {f"strengths.{part}": getattr(self._strengths, part) for part in STRENGTHS}
        return arrays | {"n_tokens": np.array(self._n_tokens)}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """As it was when `arrays` was called."""
        for name in ("top", "random"):
            for part in _SELECTED:
                setattr(getattr(self, f"_{name}"), part, arrays[f"{name}.{part}"])
        for name in _COUNTS:
            setattr(self, f"_{name}", arrays[name])
        for part in STRENGTHS:
            setattr(self._strengths, part, arrays[f"strengths.{part}"])
        self._n_tokens = int(arrays["n_tokens"])
        self._store.add(Entries(**{name: arrays[name] for name in _ENTRIES}))

    def _lots(self, image: np.int32) -> Floats:
        """A lot per latent, the same for an image in whichever group it comes."""
        return np.random.default_rng([self._seed, int(image)]).random(self._n, np.float32)

    def _pooled(
        self, at: npt.NDArray[np.int64], values: Floats, counts: npt.NDArray[np.int64]
    ) -> Floats:
        """`(images, n_latents)`.

        Args:
            at: where in that table each value belongs.
            counts: `(images,)` tokens.
        """
        size = len(counts) * self._n
        if self._pooling == "mean":
            sums = np.bincount(at, values, minlength=size).reshape(-1, self._n)
            return np.asarray(sums / counts[:, None], np.float32)
        found = np.zeros(size, np.float32)
        if self._pooling == "max":
            np.maximum.at(found, at, values)
        else:
            self._percentiles(found, at, values, counts)
        return found.reshape(-1, self._n)

    def _percentiles(
        self,
        found: Floats,
        at: npt.NDArray[np.int64],
        values: Floats,
        counts: npt.NDArray[np.int64],
    ) -> None:
        """The nearest-rank 99th percentile: 0 unless more than a hundredth of the tokens fire."""
        order = np.lexsort((-values, at))
        at, values = at[order], values[order]
        begins = np.flatnonzero(np.append(True, at[1:] != at[:-1])) if len(at) else at
        lengths = np.diff(np.append(begins, len(at)))
        above = counts - np.ceil(_UPPER * counts).astype(np.int64)
        rank = above[at[begins] // self._n]
        enough = rank < lengths
        found[at[begins][enough]] = values[(begins + rank)[enough]]

    def _count(self, chunk: Chunk, entries: Entries, fired: npt.NDArray[np.bool_]) -> None:
        self._fired_images += fired.sum(0)
        self._fired_tokens += np.bincount(entries.latents, minlength=self._n)
        self._mass += np.bincount(entries.latents, entries.values, minlength=self._n)
        np.maximum.at(self._maximum, entries.latents, entries.values)
        self._strengths.add(entries, self._maximum)
        self._n_tokens += sum(len(boxes) for boxes in chunk.boxes)


_ENTRIES = ("latents", "images", "tokens", "values")
_SELECTED = ("keys", "images", "pooled")
_COUNTS = ("fired_images", "fired_tokens", "mass", "maximum")
STRENGTHS = ("counts", "octave")


def base_view(chunk: Chunk) -> Chunk:
    """The chunk without the tokens of tiles."""
    from .protocols import base_grid

    sizes = [rows * columns for rows, columns in map(base_grid, chunk.boxes)]
    limit = np.zeros(int(chunk.images.max(initial=0)) + 1, np.int64)
    limit[chunk.images] = sizes
    boxes = [boxes[:n] for boxes, n in zip(chunk.boxes, sizes, strict=True)]
    entries: Sequence[Entries] = [
        one.where(one.tokens < limit[one.images]) for one in chunk.entries
    ]
    return Chunk(chunk.images, boxes, entries)
