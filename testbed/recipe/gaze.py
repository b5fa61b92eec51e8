"""Teaches the word for a thing to look at that thing.

Left alone, the model reads a picture as a bag: it knows that there is a boat and that something is
red, and answers 'what colour is the boat ?' with any colour that is there, for thousands of steps.
Two heads of an early layer are therefore told to look from the word to the thing, and two of the
next from the question mark to the word; what they read there, and what later layers do with it, is
learned from the answers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ..world.labels import INDEX
from ..world.render import PATCH
from ..world.shapes import PARTS

if TYPE_CHECKING:
    from .language import Packed

WORD_LAYER = 1
MARK_LAYER = 2
HEADS = 2


def thing_patches(
    gaze: Sequence[tuple[int, int, int, str]], cover: npt.NDArray[np.uint8]
) -> Tensor | None:
    """`(len(gaze), 144)` bool: the patches of each thing's main part, which gives it its looks."""
    if not gaze:
        return None
    rows = []
    for row, _, _, thing in gaze:
        part = PARTS[thing][0][0] or thing
        pixels = np.minimum(cover[row][:, INDEX[thing]], cover[row][:, INDEX[part]])
        rows.append(pixels >= min(PATCH * PATCH // 2, pixels.max()))
    return torch.from_numpy(np.stack(rows))


class Gaze:
    """Watches the queries and keys of two layers during a forward."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        self._model = model.model.language_model
        self._seen: dict[tuple[int, str], Tensor] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> Gaze:
        for layer in (WORD_LAYER, MARK_LAYER):
            attention = self._model.layers[layer].self_attn
            for name in ("q_proj", "k_proj"):
                keep = self._keeper((layer, name))
                self._hooks.append(getattr(attention, name).register_forward_hook(keep))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keeper(self, key: tuple[int, str]) -> Any:
        def keep(module: Any, inputs: Any, output: Tensor) -> None:
            self._seen[key] = output

        return keep

    def astray(self, packed: Packed) -> Tensor:
        """Mean over heads of -log(attention that falls where it should), of words plus of marks."""
        assert packed.lit is not None
        row, word, mark = (torch.tensor([gaze[i] for gaze in packed.gaze]) for i in range(3))
        prefix = self._seen[WORD_LAYER, "q_proj"].shape[1] - packed.ids.shape[1]
        at_word = self._attention(packed, WORD_LAYER, row, word)
        on_thing = at_word[:, :, 1:prefix].masked_fill(~packed.lit[:, None], -torch.inf)
        at_mark = self._attention(packed, MARK_LAYER, row, mark)
        on_word = at_mark[torch.arange(len(row)), :, prefix + word]
        return -on_thing.logsumexp(-1).mean() - on_word.mean()

    def _attention(self, packed: Packed, layer: int, row: Tensor, column: Tensor) -> Tensor:
        """`(len(row), heads, tokens)` log attention of one text position each."""
        width = self._model.config.head_dim
        n, total = self._seen[layer, "q_proj"].shape[:2]
        texts = packed.ids.shape[1]
        q, k = (
            self._seen[layer, name].reshape(n, total, -1, width).transpose(1, 2)
            for name in ("q_proj", "k_proj")
        )
        prefix = total - texts
        position = torch.cat([torch.arange(prefix).expand(n, -1), packed.position], 1)
        q, k = apply_rotary_pos_emb(q, k, *self._model.rotary_emb(q, position))
        here = q[row, :HEADS, prefix + column]
        scores = torch.einsum("ghd,ghtd->ght", here, k[row, :HEADS]) / width**0.5
        segment = packed.segment[row]
        own = segment == segment[torch.arange(len(row)), column][:, None]
        own &= torch.arange(texts) <= column[:, None]
        visible = torch.cat([torch.ones(len(row), prefix, dtype=torch.bool), own], 1)
        attention: Tensor = scores.masked_fill(~visible[:, None], -torch.inf).log_softmax(-1)
        return attention
