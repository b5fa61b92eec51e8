"""A recording in place of a chat model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ChatError, UsageError
from .chat import Reply
from .endpoint import provider_of
from .identity import file_sha256
from .question import request_sha256
from .rundir import JUDGE
from .transcript import Transcript, recorded_replies

if TYPE_CHECKING:
    from PIL.Image import Image

    from .question import Form


class ReplayChat:
    """Answers from a recording, by content: never by position, never by making something up."""

    concurrency = 1

    def __init__(
        self, file: Path, role: str = "judge", transcript: Transcript | None = None
    ) -> None:
        self.file = file / JUDGE if file.is_dir() else file
        self.ref = f"replay:{file}"
        self.role = role
        self._transcript = transcript or Transcript()
        if not self.file.is_file():
            raise UsageError(f"no recording at {self.file}; name a {JUDGE} or a run that has one")
        self._replies = recorded_replies(self.file)

    def ask(
        self,
        system: str,
        parts: Sequence[str | Image],
        key: str,
        form: Form | None = None,
        *,
        fresh: bool = False,
    ) -> Reply:
        entry = self._replies.get(request_sha256(self.role, system, parts, key, form))
        if entry is None:
            raise ChatError(
                f"{self.file} has no reply for {key!r}; the prompt, the picture or the item differs"
            )
        known = self._transcript.find(entry["request_sha256"], entry["requested"], entry["params"])
        if known is None:
            self._transcript.record(entry)
        return Reply(entry["reply"], entry["served"], entry["usage"] or {}, cached=True)

    def describe(self) -> dict[str, Any]:
        requested = self._recorded("requested")
        return {"provider": "replay", "requested": requested, "file_sha256": file_sha256(self.file)}

    def comparable(self) -> dict[str, Any]:
        """As the recorded client described itself; of several, all that they were."""
        requested, params = self._recorded("requested"), self._recorded("params")
        if len(requested) != 1 or len(params) != 1:
            return {"provider": "replay", "requested": requested, "params": params}
        return {
            "provider": provider_of(requested[0]),
            "requested": requested[0],
            "params": params[0],
        }

    def _recorded(self, field: str) -> list[Any]:
        """The distinct values of a field over all replies, in a fixed order."""
        found = {json.dumps(e[field], sort_keys=True): e[field] for e in self._replies.values()}
        return [found[key] for key in sorted(found)]
