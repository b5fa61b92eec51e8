"""The vision tower learns first, and alone: every patch says which labels it bears."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..world.labels import INDEX, LABELS, VOCABULARY
from ..world.render import GRID, PATCH
from ..world.scene import SIZE
from .pictures import PIXELS_A_PATCH, Pictures, highlighted, pixel_values, random_highlight

WIDTH = 128
POSITIVE_WEIGHT = {"object": 4.0, "part": 4.0, "texture": 2.0}
"""Small labels are rare among patches: without a weight they are learned last or never."""
SHAPES = ("object", "part")
"""Their labels span patches and are the last to be learned: later they count double."""


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )


def plane_waves(width: int = WIDTH) -> Tensor:
    """`(1 + 144, width)` sine and cosine of row and column: a place to start positions from."""
    quarter = width // 4
    frequency = 1.0 / (100 ** (torch.arange(quarter) / quarter))
    angle = torch.arange(GRID)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], 1)
    rows, columns = axis.repeat_interleave(GRID, 0), axis.repeat(GRID, 1)
    return torch.cat([torch.zeros(1, width), torch.cat([rows, columns], 1)])


def new_tower() -> CLIPVisionModel:
    tower = CLIPVisionModel(vision_config())
    embeddings = getattr(tower, "vision_model", tower).embeddings
    with torch.no_grad():
        embeddings.position_embedding.weight.copy_(0.5 * plane_waves())
    return tower


def patches(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """`(n, 144, width)` patch states, without the class token."""
    states: Tensor = tower(pixel_values=pixels).last_hidden_state
    return states[:, 1:]


def new_head() -> nn.Linear:
    """The patch probe: one logit a label, then 'lit'."""
    return nn.Linear(WIDTH, len(INDEX) + 1)


def train_tower(
    tower: CLIPVisionModel,
    head: nn.Linear,
    pictures: Pictures,
    steps: int,
    seed: int,
    batch: int = 32,
    lr: float = 2e-3,
    shapes: float = 1.0,
    said: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """One cycle: warm up, then down to nothing. The tower and its patch probe learn in place."""
    rng = np.random.default_rng(seed)
    parameters = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / steps)
    )
    positive = _weights(POSITIVE_WEIGHT)
    each = _weights(dict.fromkeys(SHAPES, shapes))
    for step in range(steps):
        pixels, target = vision_batch(pictures, rng.integers(len(pictures), size=batch), rng)
        logits = head(patches(tower, pixels))
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits, target, pos_weight=positive, weight=each
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        said(step, math.nan if step % 50 else loss.item())


def _weights(by_concept: Mapping[str, float]) -> Tensor:
    """A weight a label, 1 where none is given and for 'lit'."""
    return torch.tensor([*(by_concept.get(concept, 1.0) for concept in VOCABULARY.values()), 1.0])


def vision_batch(
    pictures: Pictures, rows: np.ndarray, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A third of the pictures are highlighted, so that 'lit' can be seen."""
    images = pictures.images[rows]
    lit = np.ones((len(rows), GRID * GRID), bool)
    for i in range(len(rows) // 3):
        lit[i] = random_highlight(pictures.cover[rows[i]], rng)
        images[i] = highlighted(images[i], lit[i])
    cover = torch.from_numpy(pictures.cover[rows]).float() / PIXELS_A_PATCH
    return pixel_values(images), torch.cat([cover, torch.from_numpy(lit)[:, :, None].float()], 2)


@torch.no_grad()
def patch_f1(tower: CLIPVisionModel, head: nn.Linear, pictures: Pictures) -> dict[str, float]:
    """F1 of 'this label covers half of the patch', pooled over each concept's labels."""
    truth = torch.from_numpy(pictures.cover >= PIXELS_A_PATCH // 2)
    said = torch.cat(
        [
            head(patches(tower, pixel_values(pictures.images[i : i + 64])))[..., :-1] > 0
            for i in range(0, len(pictures), 64)
        ]
    )
    scores = {}
    for concept, labels in LABELS.items():
        columns = [INDEX[label] for label in labels]
        a, b = said[..., columns], truth[..., columns]
        scores[concept] = float(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1))
    return scores
