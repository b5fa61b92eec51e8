"""Between tower and language model: image tokens start out as sums of the words that they show.

LLaVA's own first stage, in small: the projector is fitted alone, so that the language model begins
with image tokens in the space of its words. Without it, asking for a thing's colour stays at chance
for a thousand steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from ..world.labels import VOCABULARY
from .assembly import token_ids
from .pictures import Pictures, pixel_values
from .vision import patches, vision_batch

LIT_WORD = "highlighted"


def align_projector(
    model: LlavaForConditionalGeneration,
    pictures: Pictures,
    steps: int,
    seed: int,
    batch: int = 16,
    lr: float = 3e-3,
) -> float:
    """Fit the projector to `sum_l coverage_l * embedding(l)` plus one direction for 'lit'.

    Returns the share of that target's variance left unexplained in the last batch.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    projector = model.model.multi_modal_projector
    words = _words(model)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    _rescale(model, pictures, words)
    unexplained = torch.tensor(1.0)
    for _ in range(steps):
        pixels, shown = vision_batch(pictures, rng.integers(len(pictures), size=batch), rng)
        with torch.no_grad():
            seen = patches(model.model.vision_tower, pixels)
        target = shown @ words
        error = (projector(seen) - target).square().mean() / target.var(dim=(0, 1)).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        unexplained = error.detach()
    return float(unexplained)


def _words(model: LlavaForConditionalGeneration) -> Tensor:
    ids = token_ids()
    rows = [ids[word] for word in (*VOCABULARY, LIT_WORD)]
    embeddings: Tensor = model.get_input_embeddings().weight.detach()
    return embeddings[rows].clone()


@torch.no_grad()
def _rescale(model: LlavaForConditionalGeneration, pictures: Pictures, words: Tensor) -> None:
    """Start at the right size: the tower's states are large, the words' embeddings small."""
    projector = model.model.multi_modal_projector
    seen = patches(model.model.vision_tower, pixel_values(pictures.images[:16]))
    projector.linear_1.weight.div_(projector.linear_1(seen).std())
    projector.linear_2.weight.mul_(words.std() / projector(seen).std())
