"""The CLIP role: how well a text fits an image, by cosine of a joint embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import UsageError
from ...sae.load import no_chatter, weights_identity

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image
    from torch import Tensor

    Vectors = npt.NDArray[np.float32]


class ClipScorer(Protocol):
    """Images and texts as unit vectors `(n, d)` of one space."""

    @property
    def identity(self) -> str: ...

    def images(self, images: Sequence[Image]) -> Vectors: ...

    def texts(self, texts: Sequence[str]) -> Vectors: ...


class TransformersClip:
    """A `CLIPModel` and `CLIPProcessor` from a folder or hub id, in float32."""

    batch_size = 64

    def __init__(self, folder: Path | str) -> None:
        self._folder = str(folder)

    @cached_property
    def identity(self) -> str:
        """sha256 of the weights' file, or the commit of a hub id."""
        digest = hashlib.sha256()
        files = sorted(Path(self._folder).glob("*.safetensors"))
        for file in files:
            digest.update(file.read_bytes())
        return digest.hexdigest() if files else weights_identity(self._folder)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        from transformers import CLIPModel, CLIPProcessor

        try:
            with no_chatter():
                model = CLIPModel.from_pretrained(self._folder).eval()
                return model, CLIPProcessor.from_pretrained(self._folder)
        except (OSError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"no CLIP model can be loaded from {self._folder}: {first}") from error

    def images(self, images: Sequence[Image]) -> Vectors:
        import torch

        model, processor = self._model
        with torch.inference_mode():
            return _unit(
                model.get_image_features(**processor(images=group, return_tensors="pt"))
                for group in _groups(images, self.batch_size)
            )

    def texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        model, processor = self._model
        options = {"return_tensors": "pt", "padding": True, "truncation": True}
        with torch.inference_mode():
            return _unit(
                model.get_text_features(**processor(text=group, **options))
                for group in _groups(texts, self.batch_size)
            )


def _groups(things: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(things[start : start + size]) for start in range(0, len(things), size)]


def _unit(parts: Iterable[Any]) -> Vectors:
    """One after the other, each row of length 1. transformers 4 returned the tensors themselves."""
    import torch
    from torch.nn.functional import normalize

    tensors: list[Tensor] = [getattr(part, "pooler_output", part) for part in parts]
    if not tensors:
        return np.zeros((0, 1), np.float32)
    return np.asarray(normalize(torch.cat(tensors).float(), dim=1).cpu().numpy())
