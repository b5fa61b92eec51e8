"""Sparse latents of images, one image at a time, from one forward a batch for all SAEs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .batching import Batches
from .lmm import LMM, Batch, Prompt, TokenKind
from .progress import Progress, Quiet
from .residual import capture
from .sae import Latents, TrainedSae


@dataclass(frozen=True)
class EncodedImage:
    """One image's tokens through every SAE."""

    index: int
    """Place of the prompt in the input."""
    boxes: Tensor
    """`(tokens, 4)` in pixels of the original image."""
    latents: Sequence[Latents]
    """One per SAE, in the order given: each `(tokens, k)`."""


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
) -> list[tuple[Tensor, list[Latents]]]:
    """Of each prompt the boxes of its image tokens, and their latents of each SAE."""
    with torch.no_grad():
        batch = lmm.prepare(group)
        mask = _image_tokens(batch)
        residual = capture(lmm, batch, [*dict.fromkeys(sae.hookpoint for sae in saes)])
        images = {hookpoint: x[mask.to(x.device)] for hookpoint, x in residual.items()}
        flat = [sae.sae.encode(images[sae.hookpoint]) for sae in saes]
    counts = mask.sum(1).tolist()
    per_sae = [_split(latents, counts) for latents in flat]
    return [(boxes, [latents[row] for latents in per_sae]) for row, boxes in enumerate(batch.boxes)]


def _split(latents: Latents, counts: list[int]) -> list[Latents]:
    parts = (torch.split(tensor, counts) for tensor in latents)
    return [Latents(*pair) for pair in zip(*parts, strict=True)]


def _image_tokens(batch: Batch) -> Tensor:
    """Image tokens that have a place, and so a box."""
    return torch.isin(batch.kinds, batch.kinds.new_tensor([TokenKind.IMAGE, TokenKind.TILE]))
