"""A local transformers model in a chat role: several pictures, greedy, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ChatError, UsageError
from ..harness.chat import Reply
from ..harness.question import Form, new_entry
from ..harness.transcript import Transcript

if TYPE_CHECKING:
    from PIL.Image import Image

LOCAL = "hf:"


class LocalChat:
    """`hf:FOLDER` or `hf:owner/name[@revision]`: what `load_lmm` can load, asked as a chat model.

    Known by its weights: another checkpoint under the same name is another judge.
    """

    concurrency = 1

    def __init__(
        self,
        ref: str,
        role: str = "judge",
        transcript: Transcript | None = None,
        *,
        max_tokens: int = 64,
    ) -> None:
        self.ref = ref
        self.role = role
        self.max_tokens = max_tokens
        self._transcript = transcript or Transcript()
        self._lock = threading.Lock()

    def ask(
        self,
        system: str,
        parts: Sequence[str | Image],
        key: str,
        form: Form | None = None,
        *,
        fresh: bool = False,
    ) -> Reply:
        entry = new_entry(self.role, self._requested, system, parts, key, form)
        entry["params"] = self._params()
        digest = entry["request_sha256"]
        if known := self._transcript.known(digest, self._requested, entry["params"]):
            return known
        # Known by its weights: it answers under its own name alone.
        if not fresh and (before := self._transcript.from_before(entry, self._requested)):
            return before
        self._transcript.begin(digest)
        start = time.monotonic()
        with self._lock:
            text, usage = self._answer(system, parts)
        entry |= {"served": self._requested, "reply": text, "usage": usage}
        entry |= {"attempts": 1, "seconds": round(time.monotonic() - start, 3)}
        self._transcript.record(entry)
        ended = usage["completion_tokens"] < self.max_tokens
        if ended and not fresh and (form is None or form.read(text) is not None):
            self._transcript.keep(entry)
        return Reply(text, self._requested, usage)

    def describe(self) -> dict[str, Any]:
        # Not where it lies: the same weights elsewhere are the same judge.
        return {
            "provider": "transformers",
            "requested": self._requested,
            "params": self._params(),
        }

    def comparable(self) -> dict[str, Any]:
        return self.describe()

    @cached_property
    def _lmm(self) -> Any:
        from ..sae.hf import TransformersLMM
        from ..sae.load import load_lmm

        lmm = load_lmm(self.ref.removeprefix(LOCAL))
        if not isinstance(lmm, TransformersLMM):
            raise UsageError(f"{self.ref} has no language to judge in; name a transformers model")
        if getattr(lmm.processor, "chat_template", None) is None:
            raise UsageError(f"{self.ref} has no chat template; save one with its processor")
        return lmm

    @cached_property
    def _requested(self) -> str:
        name = Path(self.ref.removeprefix(LOCAL)).name
        return f"{LOCAL}{name}#{self._lmm.identity[:16]}"

    def _params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": self.max_tokens}

    def _answer(self, system: str, parts: Sequence[str | Image]) -> tuple[str, dict[str, int]]:
        """Raises `ChatError` where the model can't take such a question."""
        import torch

        lmm = self._lmm
        try:
            inputs = self._inputs(system, parts)
            with torch.no_grad():
                tokens = lmm.model.generate(
                    **inputs, max_new_tokens=self.max_tokens, do_sample=False
                )
        except (ValueError, IndexError, RuntimeError) as error:
            raise ChatError(f"{self.ref} can't be asked this: {str(error)[:200]}") from error
        n_prompt = inputs["input_ids"].shape[1]
        said = tokens[0, n_prompt:]
        text = lmm.processor.tokenizer.decode(said, skip_special_tokens=True).strip()
        return text, {"prompt_tokens": int(n_prompt), "completion_tokens": len(said)}

    def _inputs(self, system: str, parts: Sequence[str | Image]) -> dict[str, Any]:
        """The system text leads the user's turn: many templates of LMMs know no system role."""
        processor = self._lmm.processor
        content = [{"type": "text", "text": system}, *map(_content, parts)]
        turn = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(turn, add_generation_prompt=True)
        images = [part.convert("RGB") for part in parts if not isinstance(part, str)]
        bos = processor.tokenizer.bos_token
        encoded = processor(
            text=[text],
            images=images or None,
            return_tensors="pt",
            add_special_tokens=not (bos and text.startswith(bos)),
        )
        inputs = {k: v.to(self._lmm.device) for k, v in encoded.items() if k != "token_type_ids"}
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._lmm.model.dtype)
        return inputs


def _content(part: str | Image) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
