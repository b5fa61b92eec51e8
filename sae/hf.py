"""Any `AutoModelForImageTextToText` of transformers behind the LMM protocol."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from .blocks import decoder_blocks, pixels_enter_once
from .hooks import Prefix, Stop, hooked, recorded, replayed
from .inputs import ImageView, Inputs
from .lmm import Batch, Hook, Hookpoint, NotInModelError, Prompt, TokenKind, resolve_hookpoint

# One beam: a hook sees the rows of its batch. Sampling's settings are unset: they'd be warned of.
_GREEDY: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    **dict.fromkeys(("temperature", "top_p", "top_k", "typical_p", "min_p")),
}


class TransformersLMM:
    """An LMM from a transformers model and its processor. Prompts are padded on the left."""

    def __init__(
        self, model: Any, processor: Any, name: str, identity: str, view: ImageView = "all"
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.name = name
        self.identity = identity
        self._blocks = decoder_blocks(model)
        self._paths = list(self._blocks)
        self.n_layers = len(self._blocks)
        self.d_model = int(model.config.get_text_config(decoder=True).hidden_size)
        parameters = inspect.signature(model.forward).parameters
        self._accepts = set(parameters)
        self.inputs = Inputs(model.config, processor, name, self._accepts, view)
        self._own_positions = any(hasattr(part, "get_rope_index") for part in model.modules())
        self._pixels_enter_once = pixels_enter_once(model)

    @property
    def device(self) -> torch.device:
        """Where inputs go: the first device of a model that is spread over several."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    def hookpoint(self, ref: str | int) -> Hookpoint:
        return resolve_hookpoint(ref, self._paths, self.name)

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        batch = self.inputs.prepare(prompts)
        device = self.device
        inputs = {name: value.to(device) for name, value in batch.inputs.items()}
        inputs.update(self._positions(inputs["attention_mask"]))
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return Batch(inputs, batch.kinds.to(device), batch.boxes)

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        settings: dict[str, Any] = {"use_cache": False}
        if "logits_to_keep" in self._accepts:
            settings["logits_to_keep"] = 1
        hooks = hooks or {}
        with ExitStack() as stack:
            inputs = self._enter_prefix(stack, batch, hooks)
            stack.enter_context(hooked(self._blocks, hooks, lambda x: batch, stop_after))
            try:
                return self.model(**inputs, **settings).logits[:, -1]  # type: ignore[no-any-return]
            except Stop:
                return None

    def _enter_prefix(
        self, stack: ExitStack, batch: Batch, hooks: Mapping[Hookpoint, Hook]
    ) -> dict[str, Tensor]:
        """Go on from the batch's known prefix where it ends before the first hook, and note a
        better one.
        """
        if not hooks:
            return batch.inputs
        blocks = list(self._blocks.values())
        first = min(hookpoint.index for hookpoint in hooks)
        known: Prefix | None = batch.extra.get("prefix")
        if known is None or known.index != first:

            def keep(output: Any) -> None:
                batch.extra["prefix"] = Prefix(first, output)

            stack.enter_context(recorded(blocks[first], keep))
        if known is None or known.index > first:
            return batch.inputs
        stack.enter_context(replayed(blocks, known))
        if not self._pixels_enter_once:
            return batch.inputs
        # Nobody looks at the images again: the blocks that did are skipped.
        return {k: v for k, v in batch.inputs.items() if k != "pixel_values"}

    def generate(
        self, batch: Batch, max_new_tokens: int, hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[str]:
        views = _StepViews(batch)
        inputs = {k: v for k, v in batch.inputs.items() if k != "position_ids"}
        with torch.no_grad(), hooked(self._blocks, hooks or {}, views.of):
            tokens = self.model.generate(**inputs, generation_config=self._greedy(max_new_tokens))
        answers = tokens[:, batch.kinds.shape[1] :]
        texts = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _greedy(self, max_new_tokens: int) -> Any:
        """The checkpoint's generation config without sampling and beams. It is handed over, since
        a model that wraps its language model (InstructBLIP) asks that one's own config.
        """
        config = deepcopy(self.model.generation_config)
        config.update(max_new_tokens=max_new_tokens, **_GREEDY)
        return config

    def attach(self, hooks: Mapping[Hookpoint, Hook]) -> Callable[[], None]:
        """Hooks that act on whoever calls the model, other libraries too, until the returned
        function is called. Prompts must come as token ids.
        """
        views: list[Batch] = []
        stack = ExitStack()

        # The model holds this function, and so the stack: dropped, it would take the hooks along.
        def watch(
            module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], held: ExitStack = stack
        ) -> None:
            ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
            mask = kwargs.get("attention_mask")
            decoding = mask is not None and mask.shape[1] > ids.shape[1]
            kinds = torch.full_like(ids, TokenKind.ANSWER, dtype=torch.int8)
            if not decoding:
                kinds = self.inputs.kinds_of(ids, torch.ones_like(ids) if mask is None else mask)
            views[:] = [Batch({}, kinds, [])]

        handle = self.model.register_forward_pre_hook(watch, with_kwargs=True)
        stack.callback(handle.remove)
        stack.enter_context(hooked(self._blocks, hooks, lambda x: views[0]))
        return stack.close

    def token_id(self, word: str) -> int:
        tokenizer = self.processor.tokenizer
        # A vocabulary of word pieces holds the word with a leading space; a word-level one without.
        for text in (word, f" {word}"):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                return int(ids[0])
        raise NotInModelError(
            f"{word!r} is not one entry of the vocabulary of {self.name}; choose another word"
        )

    def _positions(self, mask: Tensor) -> dict[str, Tensor]:
        """Positions counted from each row's first real token, so that padding changes nothing."""
        if "position_ids" not in self._accepts or self._own_positions:
            return {}
        return {"position_ids": (mask.cumsum(1) - 1).clamp_min(0)}


class _StepViews:
    """The batch as a hook sees it: whole on the prefill, then one token of the answer a row."""

    def __init__(self, batch: Batch) -> None:
        self._prefill = batch
        self._decoded: Batch | None = None

    def of(self, x: Tensor) -> Batch:
        if x.shape[1] == self._prefill.kinds.shape[1] and self._decoded is None:
            return self._prefill
        if self._decoded is None:
            kinds = self._prefill.kinds.new_full((x.shape[0], 1), TokenKind.ANSWER)
            self._decoded = Batch({}, kinds, self._prefill.boxes)
        return self._decoded
