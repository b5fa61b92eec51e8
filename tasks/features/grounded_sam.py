"""A segmenter for images without masks: GroundingDINO finds boxes, SAM fills them.

transformers' classes, which need no torchvision. As the paper, with one difference that protocol
`strict` asks for: of SAM's three proposals for a box the one that SAM itself rates best is taken,
not the union of all three (`united`, protocol `released`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...sae.load import no_chatter, weights_identity
from .box_segmenter import BOX_THRESHOLD, TEXT_THRESHOLD, BoxSegmenter
from .segment import RELEASED

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .masks import Mask


class GroundedSam(BoxSegmenter):
    """transformers' GroundingDINO and SAM."""

    def __init__(
        self,
        ref: str,
        box_threshold: float = BOX_THRESHOLD,
        text_threshold: float = TEXT_THRESHOLD,
        united: bool = False,
    ) -> None:
        """`ref` is `DETECTOR+SAM`, each a folder or hub id. Raises `UsageError` for another.

        `united` takes all three of SAM's proposals for a box together, as the released code does.
        """
        super().__init__()
        self._detector, plus, self._sam = ref.partition("+")
        if not (self._detector and plus and self._sam):
            raise UsageError(f"no segmenter {ref!r}; name 'exact' or DETECTOR+SAM, say {RELEASED}")
        self._thresholds = box_threshold, text_threshold
        self._united = united

    @cached_property
    def identity(self) -> str:
        """The weights' hashes, of hub ids their commits; and the thresholds."""
        parts = [weights_identity(ref) for ref in (self._detector, self._sam)]
        united = ["united"] if self._united else []
        return "+".join([*parts, *map(str, self._thresholds), *united])

    def boxes(self, image: Image, label: str) -> list[list[float]]:
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

    def proposals(self, image: Image, boxes: list[list[float]]) -> list[Mask]:
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
        chosen = masks.any(1) if self._united else best_proposals(masks, out.iou_scores[0])
        return [mask.numpy() for mask in chosen]

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
