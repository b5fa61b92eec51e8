"""Sparse latents of images, one image at a time, from one forward a batch for all SAEs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError
from .batching import Batches
from .image_tokens import WITH_BOX
from .lmm import LMM, Batch, Prompt
from .progress import Progress, Quiet
from .residual import capture
from .sae import TrainedSae

_ENTRIES = 2**27
"""Latents of a batch and SAE that are held: 2 GiB."""


class Active(NamedTuple):
    """The latents that fire on some tokens: ragged, as many entries as there are."""

    tokens: Tensor
    """`(entries,)` int64, ascending."""
    indices: Tensor
    """`(entries,)` int32 latents, of a token the strongest first."""
    values: Tensor
    """`(entries,)`, above 0."""


@dataclass(frozen=True)
class EncodedImage:
    """One image's tokens through every SAE."""

    index: int
    """Place of the prompt in the input."""
    boxes: Tensor
    """`(tokens, 4)` in pixels of the original image."""
    latents: Sequence[Active]
    """One per SAE, in the order given."""


def encode_images(
    lmm: LMM,
    saes: Sequence[TrainedSae],
    prompts: Iterable[Prompt],
    batch_size: int = 32,
    progress: Progress | None = None,
    total: int | None = None,
) -> Iterator[EncodedImage]:
    """The latents on each prompt's image tokens, streamed in order; only one batch is in memory at
    a time, and a smaller one when that is too much.
    """
    shown = progress or Quiet()
    index = 0
    with shown.step("encoding images", total) as step:
        batches = Batches(batch_size, shown)
        for found in batches.over(prompts, lambda group: _encode(lmm, saes, group)):
            for boxes, latents in found:
                yield EncodedImage(index, boxes, latents)
                index += 1
            step.advance(len(found))


def _encode(
    lmm: LMM, saes: Sequence[TrainedSae], group: Sequence[Prompt]
) -> list[tuple[Tensor, list[Active]]]:
    """Of each prompt the boxes of its image tokens, and their latents of each SAE."""
    with torch.no_grad():
        batch = lmm.prepare(group)
        mask = _image_tokens(batch)
        residual = capture(lmm, batch, [*dict.fromkeys(sae.hookpoint for sae in saes)])
        images = {hookpoint: x[mask.to(x.device)] for hookpoint, x in residual.items()}
        flat = [_active(sae, images[sae.hookpoint]) for sae in saes]
    counts = mask.sum(1)
    per_sae = [_split(active, counts) for active in flat]
    return [(boxes, [latents[row] for latents in per_sae]) for row, boxes in enumerate(batch.boxes)]


def _active(sae: TrainedSae, x: Tensor) -> Active:
    """Of `(tokens, d_model)`. Nothing is cut off: raises `UsageError` where there are too many."""
    parts: list[Active] = []
    start, entries = 0, 0
    for indices, values in sae.sae.encode_parts(x):
        fires = values > 0
        parts.append(Active(fires.nonzero()[:, 0] + start, indices[fires], values[fires]))
        start += len(values)
        entries += len(parts[-1].values)
        if entries > _ENTRIES:
            raise UsageError(
                f"{sae.name} at {sae.hookpoint} fires {entries / start:.0f} of "
                f"{sae.sae.n_latents} latents a token, more than can be held; it is not an SAE of "
                "these activations, check its layer, model and input scale"
            )
    return Active(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _split(active: Active, counts: Tensor) -> list[Active]:
    """By image, with so many tokens each."""
    ends = counts.to(active.tokens.device).cumsum(0)
    sizes = torch.searchsorted(active.tokens, ends).diff(prepend=ends.new_zeros(1)).tolist()
    split = zip(*(torch.split(tensor, sizes) for tensor in active), strict=True)
    starts = (ends - counts.to(ends)).tolist()
    return [Active(part[0] - start, *part[1:]) for start, part in zip(starts, split, strict=True)]


def _image_tokens(batch: Batch) -> Tensor:
    """Image tokens that have a box, separators left out."""
    return torch.isin(batch.kinds, batch.kinds.new_tensor(WITH_BOX))
