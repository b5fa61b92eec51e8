"""The planted subject behind the LMM protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...sae.lmm import Batch, Hook, Hookpoint, NotInModelError, Prompt, TokenKind, resolve_hookpoint
from ...sae.places.views import grid_boxes
from ..images import REVISION
from ..world.labels import PRIORS, VOCABULARY
from ..world.render import GRID
from ..world.scene import SIZE
from . import dictionary, readout, truth
from .dictionary import BOS_NORM, D_MODEL, FEATURES, N_LAYERS, NOISE, planted
from .known import KnownPictures, Sight
from .readout import BOS, IMAGE, PAD, UNKNOWN, WORD_ID, WORDS
from .truth import Values, patch_values, question_values, word_values

VERSION = "planted-1"
"""Bumped by hand whenever an output could change."""
NAME = "testbed:planted"
NOISE_SEED = 31


@dataclass(frozen=True, slots=True)
class _Row:
    """One prompt's tokens."""

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    """`(tokens, n_features)`."""
    noise: npt.NDArray[np.float32]
    """`(tokens, n_noise)` standard normal."""
    n_patches: int


class PlantedLMM:
    """`<s>`, the patches of the picture, the words of the question; the answer is one word.

    The residual stream is `z @ D` plus noise that every layer lessens. Layers only add to it, so an
    edit at any hookpoint reaches the read-out as it is. `Batch.extra` holds the truth: `values`
    `(batch, tokens, n_features)`, and `clean` and `noise` `(batch, tokens, d_model)`.
    """

    def __init__(self) -> None:
        self.name = NAME
        self.identity = _identity()
        self.n_layers = N_LAYERS
        self.d_model = D_MODEL
        self.known = KnownPictures()

    def hookpoint(self, ref: str | int) -> Hookpoint:
        return resolve_hookpoint(ref, [f"planted.layers.{i}" for i in range(N_LAYERS)], NAME)

    def token_id(self, word: str) -> int:
        if word not in WORD_ID or word == UNKNOWN:
            raise NotInModelError(
                f"{word!r} is not a word of {NAME}; choose one of the world's words"
            )
        return WORD_ID[word]

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        """Raises `UsageError` for a picture that the planted testbed never handed out."""
        if not prompts:
            raise ValueError("a batch needs at least one prompt")
        rows = [self._row(prompt) for prompt in prompts]
        ids = torch.from_numpy(_left_padded([row.ids for row in rows]))
        values = torch.from_numpy(_left_padded([row.values for row in rows]))
        noise = torch.from_numpy(_left_padded([row.noise for row in rows])) @ planted().noise
        clean = values @ planted().D + (ids == WORD_ID[BOS])[..., None] * BOS_NORM * planted().bos
        grid = grid_boxes((0, 0, SIZE, SIZE), GRID, GRID)
        return Batch(
            {"input_ids": ids, "attention_mask": (ids != WORD_ID[PAD]).long()},
            _kinds(ids),
            [grid if row.n_patches else grid[:0] for row in rows],
            {"values": values, "clean": clean, "noise": noise},
        )

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        by_layer = {hookpoint.index: hook for hookpoint, hook in (hooks or {}).items()}
        x, before = batch.extra["clean"], 0.0
        for layer, level in enumerate(NOISE):
            x = x + (level - before) * batch.extra["noise"]
            before = level
            if layer in by_layer:
                x = by_layer[layer](x, batch)
            if stop_after is not None and layer == stop_after.index:
                return None
        return readout.readout()(x[:, -1])

    def generate(
        self, batch: Batch, max_new_tokens: int, hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[str]:
        """One word each: no further token is decoded that hooks could act on."""
        with torch.no_grad():
            logits = self.forward(batch, hooks)
        assert logits is not None
        return [WORDS[i] if max_new_tokens > 0 else "" for i in logits.argmax(-1).tolist()]

    def _row(self, prompt: Prompt) -> _Row:
        sight = self.known.find(prompt.image) if prompt.image is not None else None
        words = prompt.text.split()
        patches = patch_values(sight) if sight else np.zeros((0, len(FEATURES)), np.float32)
        names = [BOS, *[IMAGE] * len(patches), *words]
        said = [word_values(word) for word in words]
        if words:
            said[-1] = {**said[-1], **question_values(" ".join(words), sight)}
        return _Row(
            np.array([WORD_ID.get(name, WORD_ID[UNKNOWN]) for name in names]),
            np.concatenate([_dense([{}]), patches, _dense(said)]),
            np.concatenate([_noise(1), _patch_noise(sight), _text_noise(sight, words)]),
            len(patches),
        )


def _dense(values: Sequence[Values]) -> npt.NDArray[np.float32]:
    table = np.zeros((len(values), len(FEATURES)), np.float32)
    for row, active in zip(table, values, strict=True):
        row[list(active)] = list(active.values())
    return table


def _noise(n_tokens: int, *seed: int) -> npt.NDArray[np.float32]:
    """The same for the same seed; a token's noise never depends on the rest of the batch."""
    rng = np.random.default_rng([NOISE_SEED, *seed])
    return rng.standard_normal((n_tokens, len(planted().noise)), np.float32)


def _patch_noise(sight: Sight | None) -> npt.NDArray[np.float32]:
    """Hangs on the picture alone: at an image token no word has been read yet."""
    return _noise(len(sight.lit), 1, sight.key) if sight else _noise(0)


def _text_noise(sight: Sight | None, words: Sequence[str]) -> npt.NDArray[np.float32]:
    ids = [WORD_ID.get(word, WORD_ID[UNKNOWN]) for word in words]
    return _noise(len(words), 2, sight.key if sight else 0, *ids)


def _left_padded(rows: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    """`(batch, longest, ...)`, zeros first; 0 is the id of padding."""
    longest = max(map(len, rows))
    out = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    for place, row in zip(out, rows, strict=True):
        place[longest - len(row) :] = row
    return out


def _kinds(ids: Tensor) -> Tensor:
    kinds = torch.full_like(ids, TokenKind.TEXT, dtype=torch.int8)
    for word, kind in ((PAD, TokenKind.PAD), (BOS, TokenKind.BOS), (IMAGE, TokenKind.IMAGE)):
        kinds[ids == WORD_ID[word]] = kind
    return kinds


def _identity() -> str:
    """sha256 of what the subject is made from; not of D itself, whose last bits are the CPU's."""
    constants = {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module in (dictionary, readout, truth)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int | float | tuple)
    }
    about = [VERSION, REVISION, NOISE_SEED, constants, list(VOCABULARY), [str(p) for p in PRIORS]]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


@cache
def load_lmm() -> PlantedLMM:
    """The one planted subject of this process: it has to know what its testbed hands out."""
    return PlantedLMM()
