"""Explanations that others have published, by the files of the released code: nobody is asked.

Read are JSON files: the explainer's list of `{feature: explanation}`, the refiner's one object
`{feature: short label}`, the labeller's `{feature: concept}`. A feature is
`model.layers.24_feature607`, or its number alone where the file's name or nothing tells the layer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import ChatError, UsageError
from .chat_explainer import after_mark
from .explain import Explanation, concept_named, normalised
from .prompts import ANSWER, EXPLANATION

if TYPE_CHECKING:
    from ...sae.lmm import Hookpoint

Kind = Literal["explanation", "label", "concept"]
_FEATURE = re.compile(r"(?:(?P<where>.+?)_feature)?(?P<latent>\d+)")
_LAYER = re.compile(r"layers?[._](\d+)")
_UNPARSED = re.compile(r"could not be parsed", re.IGNORECASE)


@dataclass(frozen=True)
class Published:
    """Texts by kind, then by (0-based layer or None, latent)."""

    texts: Mapping[Kind, Mapping[tuple[int | None, int], str]]
    sha256: str
    paths: Sequence[str] = field(default=())

    def latents(self, hookpoint: Hookpoint) -> list[int]:
        """Every latent that the files say something about at a hookpoint, ascending."""
        return sorted(
            {
                latent
                for texts in self.texts.values()
                for layer, latent in texts
                if layer in (None, hookpoint.index)
            }
        )

    def explanation(self, hookpoint: Hookpoint, latent: int, released: bool) -> Explanation:
        """What the files say of a latent.

        `released` takes failures as the released code does: a reply that could not be parsed is a
        label like any other.
        """
        text = self._find("explanation", hookpoint, latent)
        label = self._find("label", hookpoint, latent)
        known = concept_named(self._find("concept", hookpoint, latent) or "")
        said = label if label is not None else text
        if said is None:
            return Explanation("unscorable", reason="the files have no explanation of it")
        detail = {"source": "published"}
        if not released and _UNPARSED.search(said):
            reason = "a broken reply was stored as its explanation"
            return Explanation("unscorable", text, concept=known, reason=reason, detail=detail)
        short = _unmarked(said)
        if short is None:
            return Explanation("unscorable", text, reason="refused", detail=detail)
        return Explanation("ok", text or label, normalised(short), known, detail=detail)

    def _find(self, kind: Kind, hookpoint: Hookpoint, latent: int) -> str | None:
        texts = self.texts.get(kind, {})
        return texts.get((hookpoint.index, latent), texts.get((None, latent)))


def _unmarked(text: str) -> str | None:
    """Without the marks of the reply that it was, if any; None for a refusal."""
    mark = next((mark for mark in (EXPLANATION, ANSWER) if mark in text), "")
    try:
        return after_mark(text, mark, "file") if mark else after_mark(f"{ANSWER}{text}", ANSWER, "")
    except ChatError:
        return None


def read_published(path: Path) -> Published:
    """A file, or every JSON file of a folder. Raises `UsageError` for what is none of the three."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"no explanations in {path}: it has no .json file")
    texts: dict[Kind, dict[tuple[int | None, int], str]] = {}
    digest = hashlib.sha256()
    for file in files:
        document, data = _read(file)
        digest.update(data)
        kind = _kind(file, document)
        layer = _layer(file.stem)
        for feature, text in _pairs(file, document):
            texts.setdefault(kind, {})[_place(file, feature, layer)] = text
    return Published(texts, digest.hexdigest(), [str(file) for file in files])


def _read(file: Path) -> tuple[Any, bytes]:
    try:
        data = file.read_bytes()
        return json.loads(data), data
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is no JSON file of explanations: {error}") from error


def _pairs(file: Path, document: Any) -> Iterator[tuple[str, str]]:
    parts = document if isinstance(document, list) else [document]
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(v, str) for v in part.values()):
            raise UsageError(f"{file} must hold feature names with their texts")
        yield from part.items()


def _kind(file: Path, document: Any) -> Kind:
    if isinstance(document, list):
        return "explanation"
    said = {concept_named(text) for _, text in _pairs(file, document)}
    return "concept" if said and None not in said else "label"


def _layer(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def _place(file: Path, feature: str, layer: int | None) -> tuple[int | None, int]:
    found = _FEATURE.fullmatch(feature.strip())
    if found is None:
        raise UsageError(
            f"{file}: {feature[:60]!r} names no feature, like model.layers.24_feature7"
        )
    where = _layer(found["where"]) if found["where"] else layer
    return where, int(found["latent"])
