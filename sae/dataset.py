"""A data set of pictures, questions and answers as prompts, through the `datasets` library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BadImageError, UsageError
from .images import QUESTION, PromptSequence
from .lmm import Prompt

_TEXT = ("value", "content")


class ImageDataset(PromptSequence):
    """`REF[@revision][:split]`: a hub id or a folder; the split is `train` unless named.

    The column `image` is a picture, or a list of which the first is taken. The first two turns of
    `conversations`, of the LLaVA data sets' form, are the question and the answer; without that
    column the question is one for all. Raises `UsageError` in one line for what can't be loaded.
    """

    def __init__(self, ref: str, text: str = QUESTION) -> None:
        self.text = text
        name, _, split = ref.partition(":")
        name, _, revision = name.partition("@")
        self._rows = _load(name, revision or None, split or "train")
        self.identity = f"{ref} {getattr(self._rows, '_fingerprint', '')} {text}"
        if "image" not in self._rows.column_names:
            columns = ", ".join(self._rows.column_names)
            raise UsageError(f"the data set {ref} has no column 'image', only {columns}")

    def __len__(self) -> int:
        return len(self._rows)

    def prompt(self, place: int) -> Prompt:
        try:
            row = self._rows[place]
            image = row["image"][0] if isinstance(row["image"], list) else row["image"]
            picture = None if image is None else image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise BadImageError(f"can't read image {place} of the data set ({error})") from error
        question, answer = _turns(row)
        return Prompt(question or self.text, picture, answer)


def _turns(row: Mapping[str, Any]) -> tuple[str, str]:
    """The first question, without the image's placeholder, and its answer."""
    turns = [*(row.get("conversations") or []), {}, {}][:2]
    question, answer = (next((str(t[key]) for key in _TEXT if key in t), "") for t in turns)
    return question.replace("<image>", "").strip(), answer.strip()


def _load(name: str, revision: str | None, split: str) -> Any:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise UsageError("a data set needs the package datasets; pip install datasets") from error
    try:
        return load_dataset(name, revision=revision, split=split)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"can't load the data set {name}: {reason}; check name, revision, split and network"
        ) from error
