"""Replies of chat models over all runs: what was asked before, to the letter, is not paid again.

A reply is found by the digest of the whole request: the endpoint and its model, the messages with
every picture's pixels, the sampling, the form. Never needed: without it everything is asked anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .identity import sha256
from .writing import replace_json

if TYPE_CHECKING:
    from pathlib import Path

    from .artefacts import ArtefactStore

KIND = "replies"
_REQUEST = ("requested", "params", "held_to_form", "system", "parts", "form")
"""Of a transcript's entry: all that travels. Not the item's name, and not what it is asked for."""


def content_sha256(entry: Mapping[str, Any]) -> str:
    """Digest of a whole request, from its transcript entry."""
    return sha256({name: entry.get(name) for name in _REQUEST})


@dataclass(frozen=True, slots=True)
class KeptReplies:
    """One folder a model in the cache, one file a reply, put in place at once."""

    store: ArtefactStore

    def find(self, entry: Mapping[str, Any]) -> dict[str, Any] | None:
        """`{request, reply, served, usage}` of the same request; None too where it is damaged."""
        try:
            kept = json.loads(self._file(entry).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        names = {"request", "reply", "served", "usage"}
        sound = isinstance(kept, dict) and kept.keys() == names
        return kept if sound and kept["request"] == content_sha256(entry) else None

    def keep(self, entry: Mapping[str, Any]) -> None:
        """Keep an answered request. The caller has seen that the reply is whole and in its form."""
        said = {name: entry[name] for name in ("reply", "served", "usage")}
        self.store.folder(KIND, _model(entry))
        replace_json(self._file(entry), {"request": content_sha256(entry), **said})

    def _file(self, entry: Mapping[str, Any]) -> Path:
        return self.store.place(KIND, _model(entry)) / f"{content_sha256(entry)}.json"


def _model(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"requested": entry["requested"], "params": entry["params"]}
