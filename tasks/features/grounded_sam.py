"""A segmenter for images without masks: GroundingDINO finds boxes, SAM fills them.

transformers' classes, which need no torchvision. As the paper, with one difference that protocol
`strict` asks for: of SAM's three proposals for a box the one that SAM itself rates best is taken,
not the union of all three.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ...sae.load import no_chatter, weights_identity

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image
    from torch import Tensor

    from .imageset import ImageSet
    from .masks import Mask

RELEASED = "IDEA-Research/grounding-dino-base+facebook/sam-vit-huge"
"""What the paper's code loads."""
BOX_THRESHOLD = 0.3
TEXT_THRESHOLD = 0.25


class GroundedSam:
    """Open vocabulary: every label is known, and its mask empty where nothing is found."""

    def __init__(
        self, ref: str, box_threshold: float = BOX_THRESHOLD, text_threshold: float = TEXT_THRESHOLD
    ) -> None:
        """`ref` is `DETECTOR+SAM`, each a folder or hub id. Raises `UsageError` for another."""
        self._detector, plus, self._sam = ref.partition("+")
        if not (self._detector and plus and self._sam):
            raise UsageError(f"no segmenter {ref!r}; name 'exact' or DETECTOR+SAM, say {RELEASED}")
        self._thresholds = box_threshold, text_threshold
        self._kept: dict[tuple[str, ...], npt.NDArray[np.uint8]] = {}

    @cached_property
    def identity(self) -> str:
        """The weights' hashes, of hub ids their commits; and the thresholds."""
        parts = [weights_identity(ref) for ref in (self._detector, self._sam)]
        return "+".join([*parts, *map(str, self._thresholds)])

    def segment(self, images: ImageSet, index: int, label: str) -> Mask:
        """`(height, width)` bool: the union over boxes of SAM's best proposal for each.

        Found once: arms and nulls ask for the same again. Kept at a bit a pixel.
        """
        key = (images.name, images.revision, images.ids[index], label)
        width, height = images.size
        if key not in self._kept:
            self._kept[key] = np.packbits(self.mask(images.image(index).convert("RGB"), label))
        bits = np.unpackbits(self._kept[key], count=width * height)
        return bits.reshape(height, width).astype(bool)

    def mask(self, image: Image, label: str) -> Mask:
        """The same of one picture."""
        boxes = self.boxes(image, label)
        mask = np.zeros((image.height, image.width), bool)
        for proposal in self._proposals(image, boxes) if boxes else ():
            mask |= proposal
        return mask

    def boxes(self, image: Image, label: str) -> list[list[float]]:
        """Left, top, right, bottom in pixels of every box that the detector sees the label in."""
        import torch

        model, processor = self._models[0]
        # Trained on lower-case phrases that end in a full stop.
        inputs = processor(images=image, text=f"{label.lower()}.", return_tensors="pt")
        with torch.inference_mode():
            out = model(**inputs)
        found = processor.post_process_grounded_object_detection(
            out,
            inputs.input_ids,
            threshold=self._thresholds[0],
            text_threshold=self._thresholds[1],
            target_sizes=[(image.height, image.width)],
        )
        return [[float(edge) for edge in box] for box in found[0]["boxes"]]

    def _proposals(self, image: Image, boxes: list[list[float]]) -> list[Mask]:
        import torch

        model, processor = self._models[1]
        inputs = processor(image, input_boxes=[boxes], return_tensors="pt")
        with torch.inference_mode():
            out = model(
                pixel_values=inputs["pixel_values"],
                input_boxes=inputs["input_boxes"],
                multimask_output=True,
            )
        masks = processor.image_processor.post_process_masks(
            out.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )[0]
        return [mask.numpy() for mask in best_proposals(masks, out.iou_scores[0])]

    @cached_property
    def _models(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        from transformers import AutoProcessor, GroundingDinoForObjectDetection, SamModel

        return (
            _loaded(GroundingDinoForObjectDetection, AutoProcessor, self._detector),
            _loaded(SamModel, AutoProcessor, self._sam),
        )


def best_proposals(masks: Tensor, rated: Tensor) -> Tensor:
    """Of `(boxes, 3, height, width)` those that SAM rates best `(boxes, 3)`, one a box."""
    import torch

    return masks[torch.arange(len(masks)), rated.argmax(-1)]


def _loaded(model: Any, processor: Any, ref: str) -> tuple[Any, Any]:
    try:
        with no_chatter():
            return model.from_pretrained(ref).eval(), processor.from_pretrained(ref)
    except (OSError, ValueError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"no {model.__name__} can be loaded from {ref}: {first}") from error
