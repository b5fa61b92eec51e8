"""Explanations as the paper's code wrote them, read unchanged.

`model_layers_24.json` is a list of one-key objects `{"model.layers.24_feature607": text}`; refined
labels and concepts are one object of such keys. A refusal and a reply that could not be parsed were
stored as if they were explanations: here they are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from .explain import Explanation
from .imageset import CONCEPTS

_KEY = re.compile(r"(?P<hookpoint>.+)_feature(?P<latent>\d+)")
_REFUSED = "unable to produce descriptions"
_UNPARSED = "explanation could not be parsed"
_SPELT = {"color": "colour"}

Published = dict[str, dict[int, Explanation]]
"""By hookpoint, then latent."""


def published_explanations(
    path: Path, refined: Path | None = None, concepts: Path | None = None
) -> Published:
    """Explanations from a file, or from all JSON files of a folder; of a latent that was explained
    twice, the last. Labels and concepts come from their own files where given.

    Raises `UsageError` for a file that is none of these.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    texts = {key: text for file in files for key, text in _entries(file)}
    if not texts:
        raise UsageError(f"no explanations in {path}; it should hold model_layers_24.json")
    labels = dict(_entries(refined)) if refined else {}
    named = dict(_entries(concepts)) if concepts else {}
    found: Published = {}
    for key, text in texts.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UsageError(f"{path}: {key!r} names no latent; expected HOOKPOINT_featureNUMBER")
        of_hookpoint = found.setdefault(match["hookpoint"], {})
        of_hookpoint[int(match["latent"])] = _explanation(text, labels.get(key), named.get(key))
    return found


def _explanation(text: str, label: str | None, concept: str | None) -> Explanation:
    if reason := _no_explanation(text) or (_no_explanation(label) if label is not None else None):
        return Explanation("unscorable", text=text, reason=reason)
    return Explanation("ok", text=text, label=label or text, concept=_concept(concept))


def _no_explanation(text: str) -> str | None:
    said = text.lower()
    if _REFUSED in said:
        return "the explainer could not tell"
    return "the reply could not be parsed" if _UNPARSED in said or not said.strip() else None


def _concept(reply: str | None) -> str | None:
    """Replies were stored raw: case and spelling differ, and anything may stand there."""
    word = (reply or "").strip().strip(".").lower()
    word = _SPELT.get(word, word)
    return word if word in CONCEPTS else None


def _entries(file: Path) -> Iterator[tuple[str, str]]:
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read explanations from {file}: {error}") from error
    parts = document if isinstance(document, list) else [document]
    if not all(_is_texts(part) for part in parts):
        raise UsageError(
            f"{file} holds no explanations; expected {{'model.layers.24_feature0': text}}"
        )
    for part in parts:
        yield from ((key, text) for key, text in part.items() if key != "prompt")


def _is_texts(part: Any) -> bool:
    return isinstance(part, Mapping) and all(
        isinstance(text, str) or key == "prompt" for key, text in part.items()
    )
