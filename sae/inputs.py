"""Prompts as a transformers model reads them: chat template, tokens, pixels, and what each is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..errors import UsageError
from .lmm import Batch, Prompt, TokenKind
from .places.families import Picture, place
from .places.views import Placed

if TYPE_CHECKING:
    from PIL.Image import Image

ImageView = Literal["all", "base", "tile", "squash"]
"""Which image tokens count as such: every one that has a place; the base grid's; the tiles'. With
`squash` the picture is squashed to the base grid's square first, as in the paper, and tiles don't
count either; where no token has a place, all count.
"""

# What a processor returns beside the model's own inputs although the model takes it.
_NOT_FOR_MODEL = ("labels",)
_BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
# Families that were published without a chat template; their processors add what else is needed.
_PLAIN = {"paligemma": "{image}{text}", "instructblip": "{text}", "blip-2": "{text}"}
_NEED_IMAGE = ("paligemma", "instructblip", "blip-2")
# Their processors take the pictures of each prompt apart; others take them one after another.
_NESTED = ("gemma3", "smolvlm")
_SQUASHED = 336


class Inputs:
    """From prompts to a batch on the CPU. Prompts are padded on the left."""

    def __init__(
        self, config: Any, processor: Any, name: str, accepts: Collection[str], view: ImageView
    ) -> None:
        self.config = config
        self.processor = processor
        self.name = name
        self.view = view
        self._accepts = set(accepts)
        self._family = str(config.model_type)
        self._image_token = _image_token_id(config, processor)
        self._known: dict[Picture, Placed] = {}
        processor.tokenizer.padding_side = "left"
        if hasattr(processor, "qformer_tokenizer"):
            # It counts positions from the left edge, padding included.
            processor.qformer_tokenizer.padding_side = "right"

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        """Raises `UsageError` in one line for a prompt that this family can't read."""
        if not prompts:
            raise ValueError("a batch needs at least one prompt")
        self._refuse(prompts)
        images = [self._seen(prompt.image) for prompt in prompts]
        encoded = self._encode(prompts, images)
        inputs = {
            name: value
            for name, value in encoded.items()
            if name in self._accepts and name not in _NOT_FOR_MODEL
        }
        _padding_first(inputs)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        kinds, boxes = self._kinds(ids, mask), [torch.zeros(0, 4)] * len(prompts)
        for row, one in self._placed(prompts, images, ids, encoded).items():
            one = self._chosen(one)
            kinds[row, ids[row] == self._image_token] = one.kinds
            boxes[row] = one.boxes[one.kinds != TokenKind.SEPARATOR]
        self._mark_answers(kinds, prompts)
        return Batch(inputs, kinds, boxes)

    def _refuse(self, prompts: Sequence[Prompt]) -> None:
        if self._family in _NEED_IMAGE and any(prompt.image is None for prompt in prompts):
            raise UsageError(f"{self.name} reads nothing without an image; give one per prompt")
        if self._family == "paligemma" and any(prompt.answer for prompt in prompts):
            raise UsageError(
                f"{self.name} ends every question with a line break and can't be given an answer "
                "after it; use prompts without answers"
            )

    def _seen(self, image: Image | None) -> Image | None:
        if image is None:
            return None
        image = image.convert("RGB")
        if self.view != "squash":
            return image
        return image.resize((self._base_side(), self._base_side()))

    def _base_side(self) -> int:
        tower = getattr(self.config, "vision_config", None)  # Chameleon's is of another name
        side = getattr(tower, "image_size", _SQUASHED)
        return int(side if isinstance(side, int) else side[0])

    def _encode(self, prompts: Sequence[Prompt], images: Sequence[Image | None]) -> Any:
        texts = [self.chat(prompt) + prompt.answer for prompt in prompts]
        given = [image for image in images if image is not None]
        nested = [[] if image is None else [image] for image in images]
        bos = self.processor.tokenizer.bos_token
        return self.processor(
            text=texts,
            images=(nested if self._family in _NESTED else given) if given else None,
            padding=True,
            return_tensors="pt",
            add_special_tokens=not (bos and texts[0].startswith(bos)),
        )

    def chat(self, prompt: Prompt) -> str:
        """The prompt as the model is given it, image tokens not yet spread out."""
        content = [{"type": "image"}] if prompt.image is not None else []
        content.append({"type": "text", "text": prompt.text})
        turn = [{"role": "user", "content": content}]
        if getattr(self.processor, "chat_template", None) is not None:
            return str(self.processor.apply_chat_template(turn, add_generation_prompt=True))
        if self._family not in _PLAIN:
            raise UsageError(f"{self.name} has no chat template; save one with its processor")
        return _PLAIN[self._family].format(image=self.processor.image_token, text=prompt.text)

    def kinds_of(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What token ids alone tell: every image token counts as of the base image."""
        kinds = self._kinds(ids, mask)
        kinds[(ids == self._image_token) & (mask != 0)] = TokenKind.IMAGE
        return kinds

    def _kinds(self, ids: Tensor, mask: Tensor) -> Tensor:
        kinds = torch.full_like(ids, TokenKind.TEXT, dtype=torch.int8)
        bos = self.processor.tokenizer.bos_token_id
        if bos is not None:
            kinds[ids == bos] = TokenKind.BOS
        kinds[mask == 0] = TokenKind.PAD
        return kinds

    def _placed(
        self,
        prompts: Sequence[Prompt],
        images: Sequence[Image | None],
        ids: Tensor,
        encoded: Any,
    ) -> dict[int, Placed]:
        """The image tokens of each row that has an image, with boxes in the original's pixels."""
        rows = [row for row, image in enumerate(images) if image is not None]
        counts = (ids == self._image_token).sum(1).tolist()
        grids = encoded.get("image_grid_thw")
        pixels = encoded.get("pixel_values")
        one_view = pixels is not None and pixels.ndim == 4 and len(pixels) == len(rows)
        found = {}
        for place_in_batch, row in enumerate(rows):
            image = images[row]
            original = prompts[row].image
            assert image is not None
            assert original is not None
            grid = None if grids is None else tuple(grids[place_in_batch, 1:].tolist())
            picture = Picture(*image.size, counts[row], grid, one_view)
            if picture not in self._known:
                self._known[picture] = place(self.config, self.processor, picture)
            found[row] = _scaled(self._known[picture], image.size, original.size)
        return found

    def _chosen(self, tokens: Placed) -> Placed:
        """Tokens of the views that don't count are as those without a place: separators."""
        if self.view == "all" or not len(tokens):
            return tokens
        if self.view == "squash" and bool((tokens.kinds == TokenKind.QUERY).all()):
            return tokens
        counts = TokenKind.TILE if self.view == "tile" else TokenKind.IMAGE
        kept = tokens.kinds == counts
        if not kept.any():
            what = "tiles" if self.view == "tile" else "base grid"
            raise UsageError(f"the images of {self.name} have no {what}; read all image tokens")
        kinds = torch.where(kept, tokens.kinds, torch.tensor(TokenKind.SEPARATOR))
        return Placed(kinds.to(torch.int8), tokens.boxes)

    def _mark_answers(self, kinds: Tensor, prompts: Sequence[Prompt]) -> None:
        """An answer is the end of its row: prompts are padded on the left."""
        for row, prompt in zip(kinds, prompts, strict=True):
            if prompt.answer:
                ids = self.processor.tokenizer.encode(prompt.answer, add_special_tokens=False)
                row[len(row) - len(ids) :] = TokenKind.ANSWER


def _scaled(tokens: Placed, seen: tuple[int, int], original: tuple[int, int]) -> Placed:
    if seen == original:
        return tokens
    scale = torch.tensor([original[0] / seen[0], original[1] / seen[1]] * 2)
    return Placed(tokens.kinds, tokens.boxes * scale)


def _padding_first(inputs: dict[str, Tensor]) -> None:
    """Some processors put image tokens in front of the padding; no text may lie between."""
    mask = inputs["attention_mask"]
    if not (mask.diff(dim=1) < 0).any():
        return
    order = mask.argsort(dim=1, stable=True)
    for name in _BY_TOKEN:
        if name in inputs:
            inputs[name] = inputs[name].gather(1, order)


def _image_token_id(config: Any, processor: Any) -> int:
    for holder, field in (
        (config, "image_token_id"),
        (config, "image_token_index"),
        (processor, "image_token_id"),
    ):
        value = getattr(holder, field, None)
        if value is not None:
            return int(value)
    raise UsageError(
        f"{type(processor).__name__} names no image token; this model family is not supported yet"
    )
