"""The language model learns second, behind the frozen tower, on many questions a picture at once.

The questions on one picture are packed into one sequence: each sees the picture and itself alone
(a four-dimensional mask) and starts at the same position, so the packed forward gives exactly the
logits that separate forwards would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from .assembly import BOS, EOS, PAD, token_ids
from .gaze import Gaze, thing_patches
from .pictures import Pictures, highlighted, pixel_values, random_highlight
from .words import Question, highlight_questions, picture_questions

IGNORED = -100
HIGHLIGHTS_A_STEP = 6
PICTURES_A_STEP = 10


@dataclass(slots=True)
class Packed:
    """`pixels` `(b, 3, 96, 96)`; the rest `(b, tokens)` over the text after BOS and the image."""

    pixels: Tensor
    ids: Tensor
    segment: Tensor
    """0 is padding, questions count from 1."""
    sees: Tensor
    position: Tensor
    target: Tensor
    gaze: list[tuple[int, int, int, str]] = field(default_factory=list)
    """(row, position of a word, of its question mark, thing): the word should look at the thing."""
    lit: Tensor | None = None
    """`(len(gaze), 144)` bool: where that is."""


def pack(pixels: Tensor, asked: list[list[Question]], n_image: int) -> Packed:
    """Lay the questions of each picture one after the other."""
    ids = token_ids()
    rows = [_pack_row(questions, ids, n_image) for questions in asked]
    width = max(len(row[0]) for row in rows)
    fill = (ids[PAD], 0, 0, 0, IGNORED)
    columns = [
        torch.tensor([row[i] + [fill[i]] * (width - len(row[i])) for row in rows]) for i in range(5)
    ]
    packed = Packed(pixels, columns[0], columns[1], columns[2].bool(), columns[3], columns[4])
    packed.gaze = [gaze for i, questions in enumerate(asked) for gaze in _gazes(i, questions)]
    return packed


def _gazes(row: int, questions: list[Question]) -> Iterator[tuple[int, int, int, str]]:
    start = 0
    for question in questions:
        words = question.text.split()
        if question.gaze:
            word, mark = words.index(question.gaze), len(words) - 1
            yield row, start + word, start + mark, question.gaze
        start += len(words) + len(question.answer.split())


def _pack_row(questions: list[Question], ids: dict[str, int], n_image: int) -> list[list[int]]:
    tokens: list[int] = []
    segment: list[int] = []
    sees: list[int] = []
    position: list[int] = []
    target: list[int] = []
    for number, question in enumerate(questions, 1):
        text = [ids[word] for word in question.text.split()]
        answer = [ids[word] for word in question.answer.split()] + [ids[EOS]]
        n, first = len(text) + len(answer) - 1, 1 + n_image * question.sees
        tokens += (text + answer)[:-1]
        target += [IGNORED] * (len(text) - 1) + answer
        segment += [number] * n
        sees += [int(question.sees)] * n
        position += range(first, first + n)
    return [tokens, segment, sees, position, target]


def packed_logits(model: LlavaForConditionalGeneration, packed: Packed) -> Tensor:
    """`(b, tokens, vocabulary)` at the text positions."""
    inner = model.model
    with torch.no_grad():
        seen = inner.vision_tower(pixel_values=packed.pixels).last_hidden_state[:, 1:]
    image = inner.multi_modal_projector(seen)
    embed = inner.language_model.embed_tokens
    n, n_image = packed.ids.shape[0], image.shape[1]
    start = embed(torch.full((n, 1), token_ids()[BOS]))
    states = inner.language_model(
        inputs_embeds=torch.cat([start, image, embed(packed.ids)], 1),
        attention_mask=_mask(packed, n_image),
        position_ids=torch.cat([torch.arange(1 + n_image).expand(n, -1), packed.position], 1),
        use_cache=False,
    ).last_hidden_state
    logits: Tensor = model.lm_head(states[:, 1 + n_image :])
    return logits


def _mask(packed: Packed, n_image: int) -> Tensor:
    """`(b, 1, t, t)`, 0 or very negative: the prefix if it sees, its own segment, never ahead."""
    n, prefix = packed.ids.shape[0], 1 + n_image
    segment = torch.cat([torch.zeros(n, prefix, dtype=torch.long), packed.segment], 1)
    sees = torch.cat([torch.ones(n, prefix, dtype=torch.bool), packed.sees], 1)
    total = segment.shape[1]
    own = segment[:, :, None] == segment[:, None, :]
    is_prefix = torch.arange(total) < prefix
    visible = own | (is_prefix[None, None, :] & sees[:, :, None])
    visible |= torch.arange(total)[None, None, :] == 0  # BOS is always there
    visible &= torch.ones(total, total, dtype=torch.bool).tril()
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None]


def training_batches(
    pictures: Pictures, rng: np.random.Generator, n_image: int
) -> tuple[Packed, Packed]:
    """Pictures as they are with questions of every form, and highlighted ones with what is lit."""
    rows = rng.integers(len(pictures), size=PICTURES_A_STEP)
    asked = [
        list(picture_questions(pictures.scenes[row], pictures.cover[row], rng)) for row in rows
    ]
    plain = pack(pixel_values(pictures.images[rows]), asked, n_image)
    plain.lit = thing_patches(plain.gaze, pictures.cover[rows])
    rows = rng.integers(len(pictures), size=HIGHLIGHTS_A_STEP)
    images, asked = pictures.images[rows], []
    for i, row in enumerate(rows):
        lit = random_highlight(pictures.cover[row], rng)
        images[i] = highlighted(images[i], lit)
        asked.append(highlight_questions(pictures.cover[row], lit, rng))
    return plain, pack(pixel_values(images), asked, n_image)


def _loss(
    model: LlavaForConditionalGeneration, batches: tuple[Packed, Packed], gaze: float
) -> Tensor:
    """Cross entropy of answers and their ends, all questions alike, plus the gaze term."""
    logits, targets, astray = [], [], torch.zeros(())
    for packed in batches:
        wanted = packed.target != IGNORED
        with Gaze(model) as watched:
            logits.append(packed_logits(model, packed)[wanted])
        targets.append(packed.target[wanted])
        if gaze and packed.gaze:
            astray = astray + watched.astray(packed)
    return nn.functional.cross_entropy(torch.cat(logits), torch.cat(targets)) + gaze * astray


def train_language(
    model: LlavaForConditionalGeneration,
    pictures: Pictures,
    steps: int,
    seed: int,
    lr: float = 2e-3,
    horizon: int | None = None,
    gaze: float = 0.0,
    said: Callable[[int, float], None] = lambda step, loss: None,
) -> LlavaForConditionalGeneration:
    """One cycle of everything behind the tower, loss on answers and their end alone.

    The learning rate falls to nothing at `horizon` (default: the last step). `gaze` weighs the
    term that teaches the word for a thing to look at it.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model.model.vision_tower.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, 1 - step / (horizon or steps))
    )
    n_image = model.config.image_seq_length
    for step in range(steps):
        loss = _loss(model, training_batches(pictures, rng, n_image), gaze)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        said(step, math.nan if step % 50 else loss.item())
    model.model.vision_tower.requires_grad_(True)
    return model.eval()
