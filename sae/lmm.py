"""The large multimodal model under study, seen from outside: tokens, residual stream, logits.

Everything else in the package uses an LMM through `LMM` alone, so that a transformers model
and the planted subject of the testbed are interchangeable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class NotInModelError(UsageError, ValueError):
    """A layer, word or capability that the loaded model does not have."""


class TokenKind(IntEnum):
    """What a position of the sequence holds."""

    PAD = 0
    BOS = 1
    TEXT = 2
    IMAGE = 3
    """A token of the base view of an image."""
    TILE = 4
    """A token of a higher-resolution tile."""
    SEPARATOR = 5
    """An image token without a place: newline, tile separator."""
    ANSWER = 6
    """A token of the answer: decoded, or brought along by the prompt."""
    QUERY = 7
    """An image token that looks nowhere in particular: a Q-Former's query, or of a layout that
    nobody has described.
    """


@dataclass(frozen=True, slots=True)
class Hookpoint:
    """The output of one decoder block, that is, the residual stream after it."""

    name: str
    """The published, 0-based form: `model.layers.24`."""
    index: int
    """0-based."""
    module: str
    """Where the block lives in the loaded model: `model.language_model.layers.24`."""

    @property
    def layer(self) -> int:
        """The paper's 1-based number."""
        return self.index + 1

    def __str__(self) -> str:
        return f"{self.name} (layer {self.layer})"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One user turn. `image` is optional: a question can be asked without one.

    With an `answer` the model reads it as its own words after the question.
    """

    text: str
    image: Image | None = None
    answer: str = ""


@dataclass(slots=True)
class Batch:
    """Prompts ready for one forward, padded on the left: the last position is the answer's."""

    inputs: dict[str, Tensor]
    kinds: Tensor
    """`(batch, tokens)` int8 of `TokenKind`."""
    boxes: Sequence[Tensor]
    """Per prompt `(n_image_tokens, 4)` float: x0, y0, x1, y1 in pixels of the original image, in
    the order of that row's IMAGE, TILE and QUERY tokens; a QUERY's box is empty (all 0).
    """
    extra: dict[str, Any] = field(default_factory=dict)
    """What a particular LMM wants to carry along."""

    def __len__(self) -> int:
        return int(self.kinds.shape[0])


def resolve_hookpoint(ref: str | int, modules: Sequence[str], model: str) -> Hookpoint:
    """The hookpoint meant by `ref` in a model whose decoder blocks live at `modules`, in order.

    `ref` is a 1-based number (or its digits), a published 0-based name (`model.layers.24`,
    `layers.24`) or a block's real path. Raises `NotInModelError` beyond the model's depth and for
    anything else.
    """
    index = _block_index(ref, modules)
    if index is None:
        raise NotInModelError(
            f"{ref!r} is no layer of {model}; write a number from 1 to {len(modules)}, "
            f"or model.layers.0 to model.layers.{len(modules) - 1}"
        )
    return Hookpoint(f"model.layers.{index}", index, modules[index])


# Families and releases wrap the decoder differently; what is published says no more than a path of
# theirs. A vision tower's blocks are never meant.
_PUBLISHED = re.compile(
    r"(?:(?:model|language_model|text_model|decoder|transformer)\.)*(?:layers|h)\.(\d+)"
)


def _block_index(ref: str | int, modules: Sequence[str]) -> int | None:
    if isinstance(ref, str) and ref in modules:
        return list(modules).index(ref)
    published = _PUBLISHED.fullmatch(str(ref))
    if published:
        index = int(published[1])
    elif re.fullmatch(r"\d+", str(ref)):
        index = int(ref) - 1
    else:
        return None
    return index if 0 <= index < len(modules) else None


Hook = Callable[["Tensor", Batch], "Tensor"]
"""Takes the residual stream `(batch, tokens, d_model)` and returns the one to go on with, never
written in place.
"""


class LMM(Protocol):
    """A large multimodal model whose residual stream can be read and written."""

    name: str
    identity: str
    """sha256 of the weights or the hub commit: changes whenever an output could."""
    n_layers: int
    d_model: int

    def hookpoint(self, ref: str | int) -> Hookpoint:
        """`model.layers.24`, or the paper's 1-based number. Raises `ValueError` beyond the model's
        depth.
        """

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        """Apply the chat template, tokenise and process images."""

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        """Next-token logits `(batch, vocabulary)` at the last position, or None when stopped early.

        Hooks are always removed again, also after an exception. Gradients flow when enabled.
        """

    def generate(
        self, batch: Batch, max_new_tokens: int, hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[str]:
        """Greedy answers; hooks act on the prefill and on every decoded token, an `ANSWER`."""

    def token_id(self, word: str) -> int:
        """The id of a word that is one vocabulary entry; raises `ValueError` otherwise, never
        `<unk>`.
        """
