"""Images through the LMM and every SAE, in groups small enough to hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...sae.latents import EncodedImage, encode_images
from ...sae.lmm import Prompt
from .selection import Entries

if TYPE_CHECKING:
    from ...harness.progress import Progress
    from ...sae.latents import Active
    from ...sae.lmm import LMM
    from ...sae.topk import TrainedSae
    from .imageset import ImageSet
    from .masks import Boxes

GROUP = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive images of a set."""

    images: npt.NDArray[np.int32]
    """`(n,)` ascending indices within the set."""
    boxes: Sequence[Boxes]
    """Per image `(n_tokens, 4)`."""
    entries: Sequence[Entries]
    """One per SAE: the latents above zero."""


def stream(
    lmm: LMM,
    saes: Sequence[TrainedSae],
    images: ImageSet,
    progress: Progress,
    chosen: Sequence[int] | None = None,
) -> Iterator[Chunk]:
    """The set once, or the `chosen` images of it, ascending; one forward a group for all SAEs.

    The prompt is the image alone. A text would make no difference: a causal model has seen none of
    it at an image token.
    """
    through = range(len(images)) if chosen is None else chosen
    prompts = (Prompt("", images.image(i)) for i in through)
    encoded = encode_images(lmm, saes, prompts, GROUP, progress, len(through))
    while group := list(islice(encoded, GROUP)):
        places = [through[one.index] for one in group]
        yield Chunk(
            np.array(places, np.int32),
            [np.asarray(one.boxes.cpu().numpy(), np.float32) for one in group],
            [_entries(group, places, sae) for sae in range(len(saes))],
        )


def _entries(group: Sequence[EncodedImage], places: Sequence[int], sae: int) -> Entries:
    pairs = zip(places, group, strict=True)
    return Entries.concatenate([positive(image, one.latents[sae]) for image, one in pairs])


def positive(image: int, active: Active) -> Entries:
    """The latents above 0 of one image."""
    return Entries(
        active.indices.cpu().numpy().astype(np.int32),
        np.full(len(active.tokens), image, np.int32),
        active.tokens.cpu().numpy().astype(np.int32),
        active.values.float().cpu().numpy().astype(np.float32),
    )
