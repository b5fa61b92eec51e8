"""The CLIP role: how well a text fits an image, by cosine of a joint embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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


OPEN_CLIP = "open_clip:"
_LOCAL = "local-dir:"
_PADDED: Mapping[str, bool | str] = {"clip": True, "siglip": "max_length", "siglip2": "max_length"}
"""Families whose texts and images share a space, and how their texts were padded in training."""


class ClipScorer(Protocol):
    """Images and texts as unit vectors `(n, d)` of one space."""

    @property
    def identity(self) -> str: ...

    def images(self, images: Sequence[Image]) -> Vectors: ...

    def texts(self, texts: Sequence[str]) -> Vectors: ...


class TransformersClip:
    """transformers' CLIP or SigLIP with its processor, from a folder or hub id, in float32."""

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
        from transformers import AutoConfig, AutoModel, AutoProcessor

        try:
            with no_chatter():
                kind = AutoConfig.from_pretrained(self._folder).model_type
                if kind not in _PADDED:
                    raise ValueError(f"it is a {kind}; choose one of {', '.join(_PADDED)}")
                model = AutoModel.from_pretrained(self._folder).eval()
                return model, AutoProcessor.from_pretrained(self._folder)
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
        padding = _PADDED[model.config.model_type]
        options = {"return_tensors": "pt", "padding": padding, "truncation": True}
        with torch.inference_mode():
            return _unit(
                model.get_text_features(**processor(text=group, **options))
                for group in _groups(texts, self.batch_size)
            )


class OpenClip:
    """Any model of the package `open_clip`, SigLIP's too: `NAME/PRETRAINED`, `hf-hub:...` or
    `local-dir:FOLDER`. Without pretrained weights its scores are noise, so they must be named.
    """

    batch_size = 64

    def __init__(self, ref: str) -> None:
        self._ref = ref

    @cached_property
    def identity(self) -> str:
        """The ref, or a local folder's weights."""
        if self._ref.startswith(_LOCAL):
            return f"open_clip {TransformersClip(self._ref.removeprefix(_LOCAL)).identity}"
        return f"open_clip {self._ref}"

    @cached_property
    def _model(self) -> tuple[Any, Any, Any]:
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:
            raise UsageError(
                f"open_clip can't be imported ({error}); pip install 'lmmsae-eval[open-clip]'"
            ) from error
        schema = self._ref.startswith((_LOCAL, "hf-hub:"))
        name, _, weights = (self._ref, "", None) if schema else self._ref.partition("/")
        if not schema and not weights:
            raise UsageError(f"open_clip:{name} names no weights; write open_clip:NAME/PRETRAINED")
        try:
            model, _, prepare = open_clip.create_model_and_transforms(name, pretrained=weights)
            return model.eval(), prepare, open_clip.get_tokenizer(name)
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(
                f"no open_clip model can be loaded from {self._ref}: {first}"
            ) from error

    def images(self, images: Sequence[Image]) -> Vectors:
        import torch

        model, prepare, _ = self._model
        with torch.inference_mode():
            return _unit(
                model.encode_image(torch.stack([prepare(image.convert("RGB")) for image in group]))
                for group in _groups(images, self.batch_size)
            )

    def texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        model, _, tokenizer = self._model
        with torch.inference_mode():
            return _unit(
                model.encode_text(tokenizer(group)) for group in _groups(texts, self.batch_size)
            )


def open_clip_scorer(ref: str) -> ClipScorer:
    """`open_clip:...`, else a folder or hub id of transformers' CLIP."""
    if ref.startswith(OPEN_CLIP):
        return OpenClip(ref.removeprefix(OPEN_CLIP))
    return TransformersClip(ref)


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
