"""A small CLIP of the same world, in transformers' format: pictures and captions in one space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
)

from ..world.labels import INDEX, VOCABULARY
from ..world.scene import Scene
from .assembly import BOS, EOS, PAD, new_image_processor, new_tokenizer, token_ids
from .pictures import PIXELS_A_PATCH, Pictures, pixel_values
from .vision import WIDTH, vision_config

LONGEST = 40
"""Words of the longest caption, BOS and EOS included."""


def clip_ids() -> dict[str, int]:
    """The LMM's words with EOS last.

    CLIP pools its text at EOS; transformers takes an EOS of id 2, which the LMM's is, for an old
    checkpoint and pools at the highest id instead. Last, it is both.
    """
    words = [word for word in token_ids() if word != EOS]
    return {word: i for i, word in enumerate([*words, EOS])}


def new_clip_tokenizer() -> PreTrainedTokenizerFast:
    """The LMM's words, with BOS before and EOS behind: CLIP reads its text at the EOS."""
    from tokenizers.processors import TemplateProcessing

    ids = clip_ids()
    tokenizer = new_tokenizer(ids)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, ids[BOS]), (EOS, ids[EOS])]
    )
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = LONGEST
    return tokenizer


def new_clip(tower: CLIPVisionModel, seed: int) -> CLIPModel:
    torch.manual_seed(seed)
    ids = clip_ids()
    text = CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LONGEST,
        projection_dim=WIDTH,
        pad_token_id=ids[PAD],
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
    )
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision_config(), projection_dim=WIDTH)
    )
    wanted = getattr(model.vision_model, "vision_model", model.vision_model)
    given = getattr(tower, "vision_model", tower)
    wanted.load_state_dict(given.state_dict())
    return model


def new_clip_processor() -> CLIPProcessor:
    return CLIPProcessor(image_processor=new_image_processor(), tokenizer=new_clip_tokenizer())


def caption_words(scene: Scene) -> str:
    """A full caption: the scene, and every thing with its looks."""
    things = [
        f"{thing.texture} {thing.colour} {thing.material} {thing.name}" for thing in scene.things
    ]
    return f"the {scene.name} with {' , '.join(things) if things else 'nothing'}"


def label_words(label: str) -> str:
    """The short caption of one label, as an explanation is scored."""
    return f"a {label}"


def encode_words(texts: Sequence[str]) -> Tensor:
    """`(n, longest)` ids, padded on the right."""
    ids = clip_ids()
    rows = [[ids[BOS], *(ids[word] for word in text.split()), ids[EOS]] for text in texts]
    width = max(map(len, rows))
    return torch.tensor([row + [ids[PAD]] * (width - len(row)) for row in rows])


def image_features(model: CLIPModel, pixels: Tensor) -> Tensor:
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return nn.functional.normalize(model.visual_projection(pooled), dim=-1)


def text_features(model: CLIPModel, ids: Tensor) -> Tensor:
    mask = (ids != clip_ids()[PAD]).long()
    pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
    return nn.functional.normalize(model.text_projection(pooled), dim=-1)


def train_clip(
    model: CLIPModel,
    pictures: Pictures,
    steps: int,
    seed: int,
    batch: int = 64,
    lr: float = 1e-3,
    said: Callable[[int, float], None] = lambda step, loss: None,
) -> CLIPModel:
    """Captions by contrast within the batch; single labels by whether they show in the picture."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / steps)
    )
    labels = encode_words([label_words(label) for label in VOCABULARY])
    for step in range(steps):
        rows = rng.choice(len(pictures), batch, replace=False)
        loss = _loss(model, pictures, rows, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        said(step, math.nan if step % 50 else loss.item())
    return model.eval()


def _loss(model: CLIPModel, pictures: Pictures, rows: np.ndarray, labels: Tensor) -> Tensor:
    seen = image_features(model, pixel_values(pictures.images[rows]))
    told = text_features(model, encode_words([caption_words(pictures.scenes[i]) for i in rows]))
    scale = model.logit_scale.exp().clamp(max=100)
    logits = scale * seen @ told.T
    goal = torch.arange(len(rows))
    contrast = (
        nn.functional.cross_entropy(logits, goal) + nn.functional.cross_entropy(logits.T, goal)
    ) / 2
    return contrast + _label_loss(seen, text_features(model, labels), pictures.cover[rows])


def _label_loss(seen: Tensor, named: Tensor, cover: np.ndarray) -> Tensor:
    """A label should be nearer to the pictures that show it: contrast over the batch, per label."""
    shows = torch.from_numpy(cover.sum(1, dtype=np.int64) >= PIXELS_A_PATCH).float()
    usable = (shows.sum(0) > 0) & (shows.sum(0) < len(shows))
    shows, logits = shows[:, usable], (20 * seen @ named.T)[:, usable]
    goal = shows / shows.sum(0)
    return -(goal * logits.log_softmax(0)).sum(0).mean()


@torch.no_grad()
def recall_at_1(model: CLIPModel, pictures: Pictures, among: int = 100) -> float:
    """Share of pictures whose own caption is the nearest of `among` held-out captions."""
    hits = []
    for i in range(0, len(pictures) - among + 1, among):
        seen = image_features(model, pixel_values(pictures.images[i : i + among]))
        told = text_features(
            model, encode_words([caption_words(s) for s in pictures.scenes[i : i + among]])
        )
        hits.append(((seen @ told.T).argmax(1) == torch.arange(among)).float().mean())
    return float(torch.stack(hits).mean())


@torch.no_grad()
def label_auroc(model: CLIPModel, pictures: Pictures) -> dict[str, float]:
    """Per concept, how well a label's similarity tells pictures that show it from others."""
    from .exam import auroc

    seen = torch.cat(
        [
            image_features(model, pixel_values(pictures.images[i : i + 64]))
            for i in range(0, len(pictures), 64)
        ]
    )
    named = text_features(model, encode_words([label_words(label) for label in VOCABULARY]))
    similarity = (seen @ named.T).numpy()
    shows = pictures.cover.sum(1, dtype=np.int64) >= PIXELS_A_PATCH
    scores: dict[str, list[float]] = {}
    for label, concept in VOCABULARY.items():
        truth = shows[:, INDEX[label]]
        if truth.any() and not truth.all():
            scores.setdefault(concept, []).append(auroc(similarity[:, INDEX[label]], truth))
    return {concept: float(np.mean(values)) for concept, values in scores.items()}
