"""One question to a chat model: what it is sent as, recorded as and recognised by."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from .identity import sha256

if TYPE_CHECKING:
    from PIL.Image import Image

_ITEM = "item"


@dataclass(frozen=True, slots=True)
class Form:
    """What a reply must be: a JSON object that names its item and gives one answer, no more.

    The item's code is how a reply that belongs to another question is known, whatever mixed the
    two up: a proxy, a batch, a cache.
    """

    item: str
    field: str
    answers: tuple[str | int, ...]

    def example(self, answer: str | int) -> str:
        """The reply that gives this answer."""
        return json.dumps({_ITEM: self.item, self.field: answer})

    def schema(self) -> dict[str, Any]:
        """JSON schema of all valid replies."""
        properties = {
            _ITEM: {"type": "string", "enum": [self.item]},
            self.field: {"type": _type_of(self.answers[0]), "enum": list(self.answers)},
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def read(self, text: str) -> str | int | None:
        """The answer; None for anything that is no such object."""
        found = _object(text)
        if found is None or found.keys() != {_ITEM, self.field} or found[_ITEM] != self.item:
            return None
        said = found[self.field]
        # true == 1 in Python, not in a schema.
        same = [answer for answer in self.answers if type(answer) is type(said) and answer == said]
        return same[0] if same else None

    def of_another(self, text: str) -> bool:
        """Whether the reply names another item than this one."""
        found = _object(text)
        return found is not None and _ITEM in found and found[_ITEM] != self.item

    def document(self) -> dict[str, Any]:
        return {_ITEM: self.item, "field": self.field, "answers": list(self.answers)}


def item_code(*parts: str) -> str:
    """What a question is called towards the model: says nothing of what it is about."""
    return sha256(list(parts))[:8]


def request_sha256(
    role: str,
    system: str,
    parts: Sequence[str | Image],
    key: str,
    form: Form | None = None,
) -> str:
    """Digest of a question's content. Pictures count by their pixels, not by their encoding."""
    document = {
        "role": role,
        "system": system,
        "key": key,
        "parts": [_part_document(part) for part in parts],
    }
    return sha256(document | ({"form": form.document()} if form else {}))


def new_entry(
    role: str,
    ref: str,
    system: str,
    parts: Sequence[str | Image],
    key: str,
    form: Form | None = None,
) -> dict[str, Any]:
    """A transcript entry without its reply. Pictures are named by digest and size."""
    return {
        "key": key,
        "role": role,
        "request_sha256": request_sha256(role, system, parts, key, form),
        "requested": ref,
        "served": None,
        "system": system,
        "parts": [_part_document(part) for part in parts],
        "form": form.document() if form else None,
        "params": {},
        "reply": None,
        "usage": None,
        "seconds": 0.0,
        "attempts": 0,
        "error": None,
    }


def _part_document(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    pixels = hashlib.sha256(part.convert("RGB").tobytes()).hexdigest()
    return {"image_sha256": pixels, "size": list(part.size)}


def part_content(part: str | Image) -> dict[str, Any]:
    """A part as the chat protocol wants it; pictures as PNG data URLs."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    buffer = BytesIO()
    part.convert("RGB").save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values for one name, a parser takes the last: that is no strict reading."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _type_of(answer: str | int) -> str:
    return "string" if isinstance(answer, str) else "integer"
