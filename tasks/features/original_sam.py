"""The second segmenter: the original `groundingdino-py` and `segment-anything` packages.

What the authors' own checkpoints are published for. Both need torchvision; they are imported when a
mask is first asked for.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ...harness.identity import file_sha256
from .box_segmenter import BOX_THRESHOLD, TEXT_THRESHOLD, BoxSegmenter

if TYPE_CHECKING:
    from PIL.Image import Image

    from .masks import Mask

_EXTRA = "pip install 'lmmsae-eval[groundingdino,segment-anything]'"


class OriginalSam(BoxSegmenter):
    """`CONFIG+DETECTOR+TYPE:SAM`: a detector's config and checkpoint, SAM's type and checkpoint.

    For example `GroundingDINO_SwinB_cfg.py+groundingdino_swinb_cogcoor.pth+vit_h:sam_vit_h.pth`.
    """

    def __init__(
        self, ref: str, united: bool = False, box_threshold: float = BOX_THRESHOLD
    ) -> None:
        """Raises `UsageError` for another form, or a file that is not there."""
        super().__init__()
        parts = ref.split("+")
        kind, colon, weights = parts[-1].partition(":")
        if len(parts) != 3 or not colon:
            raise UsageError(f"no segmenter {ref!r}; write original:CONFIG+DETECTOR+TYPE:SAM")
        self._files = [Path(parts[0]), Path(parts[1]), Path(weights)]
        for file in self._files:
            if not file.is_file():
                raise UsageError(f"no file at {file}, which the segmenter needs")
        self._kind, self._united, self._threshold = kind, united, box_threshold

    @cached_property
    def identity(self) -> str:
        """The files' hashes and how they are used."""
        hashes = [file_sha256(file) for file in self._files]
        united = ["united"] if self._united else []
        return "+".join(["original", self._kind, *hashes, str(self._threshold), *united])

    @property
    def detector(self) -> Any:
        """The GroundingDINO model."""
        return self._models[0]

    def boxes(self, image: Image, label: str) -> list[list[float]]:
        predict = _package("groundingdino.util.inference").predict
        found, _, _ = predict(
            model=self._models[0],
            image=_detector_input(image),
            caption=f"{label.lower()}.",
            box_threshold=self._threshold,
            text_threshold=TEXT_THRESHOLD,
            device="cpu",
        )
        # Centre and size, as shares of the picture.
        scale = np.array([image.width, image.height] * 2)
        centre, half = found.numpy()[:, :2], found.numpy()[:, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], 1) * scale
        return [[float(edge) for edge in box] for box in corners]

    def proposals(self, image: Image, boxes: list[list[float]]) -> list[Mask]:
        predictor = self._models[1]
        predictor.set_image(np.asarray(image))
        return [self._proposal(predictor, np.array(box)) for box in boxes]

    def _proposal(self, predictor: Any, box: Any) -> Mask:
        masks, rated, _ = predictor.predict(box=box, multimask_output=True)
        return np.asarray(masks.any(0) if self._united else masks[int(rated.argmax())])

    @cached_property
    def _models(self) -> tuple[Any, Any]:
        config, detector, sam = self._files
        inference = _package("groundingdino.util.inference")
        registry = _package("segment_anything").sam_model_registry
        if self._kind not in registry:
            raise UsageError(f"no SAM of type {self._kind!r}; there are {', '.join(registry)}")
        _mend_bert()
        model = inference.load_model(str(config), str(detector), device="cpu")
        predictor = _package("segment_anything").SamPredictor
        return model, predictor(registry[self._kind](checkpoint=str(sam)).eval())


def _detector_input(image: Image) -> Any:
    """As the package's own `load_image` makes it from a file."""
    transforms = _package("groundingdino.datasets.transforms")
    steps = [
        transforms.RandomResize([800], max_size=1333),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    tensor, _ = transforms.Compose(steps)(image.convert("RGB"), None)
    return tensor


def _mend_bert() -> None:
    """What groundingdino 0.4.0 asks of a BertModel and transformers 5 no longer has."""
    from transformers import BertModel

    for name, method in _BERT_METHODS.items():
        if not hasattr(BertModel, name):
            setattr(BertModel, name, method)


def _extended(bert: Any, mask: Any, *_: Any) -> Any:
    """0 where a token may look, a very low number elsewhere, broadcast over heads."""
    import torch

    seen = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
    dtype = bert.embeddings.word_embeddings.weight.dtype
    return (1 - seen.to(dtype)) * torch.finfo(dtype).min


def _no_heads_left_out(bert: Any, mask: Any, n_layers: int) -> list[Any]:
    return [None] * n_layers


_BERT_METHODS: dict[str, Any] = {
    "get_extended_attention_mask": _extended,
    "invert_attention_mask": _extended,
    "get_head_mask": _no_heads_left_out,
}


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:
        top = name.partition(".")[0]
        raise UsageError(f"{top} can't be imported ({error}); {_EXTRA}") from error
