"""One question to a chat model: what it is sent as, recorded as and recognised by."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from .identity import sha256

if TYPE_CHECKING:
    from PIL.Image import Image


def request_sha256(role: str, system: str, parts: Sequence[str | Image], key: str) -> str:
    """Digest of a question's content. Pictures count by their pixels, not by their encoding."""
    return sha256(
        {
            "role": role,
            "system": system,
            "key": key,
            "parts": [_part_document(part) for part in parts],
        }
    )


def new_entry(
    role: str, ref: str, system: str, parts: Sequence[str | Image], key: str
) -> dict[str, Any]:
    """A transcript entry without its reply. Pictures are named by digest and size."""
    return {
        "key": key,
        "role": role,
        "request_sha256": request_sha256(role, system, parts, key),
        "requested": ref,
        "served": None,
        "system": system,
        "parts": [_part_document(part) for part in parts],
        "params": {},
        "reply": None,
        "usage": None,
        "seconds": 0.0,
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
