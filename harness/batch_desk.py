"""A provider's batch API: a file of questions goes in, hours later a file of replies comes out.

What is handed in is noted in the run's `batches.jsonl` before it is, under a name that travels with
it: a run that was killed finds its batch again, and no batch is handed in twice.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from ..errors import ChatError, IncompleteError, UsageError
from .openai_call import PATH
from .retry import PassingError
from .rundir import BATCHES
from .writing import read_lines

if TYPE_CHECKING:
    from .openai_chat import OpenAIChat
    from .progress import Progress
    from .rundir import RunDirectory

LARGEST, MOST = 100_000_000, 50_000
"""Bytes and questions of one file: half of what OpenAI takes, and all of it."""
_NAME = "lmmsae_eval"
"""Of the entry in a batch's metadata by which it is found again."""
_OVER = ("completed", "failed", "expired", "cancelled")
_LONGEST_PAUSE = 60.0
_CLOCKS = 3600.0
"""Seconds that the provider's clock may be behind this one."""
_WITHOUT = {404, 405, 501}


@dataclass(frozen=True, slots=True)
class Batch:
    """One that was begun. Without an `id` nobody knows yet whether it was handed in."""

    name: str
    questions: tuple[str, ...]
    at: float
    id: str | None = None
    ended: str | None = None


class Spool:
    """Questions on their way into files. Nothing of them is kept in memory."""

    def __init__(self) -> None:
        self._parts: list[tuple[list[str], IO[bytes]]] = []

    def add(self, name: str, document: Mapping[str, Any]) -> None:
        line = json.dumps(
            {"custom_id": name, "method": "POST", "url": f"/v1{PATH}", "body": document}
        ).encode()
        if not self._parts or self._full(len(line)):
            self._parts.append(([], tempfile.TemporaryFile()))  # noqa: SIM115 - read when all is there
        names, file = self._parts[-1]
        names.append(name)
        file.write(line + b"\n")

    def files(self) -> Iterator[tuple[list[str], IO[bytes]]]:
        """Names of questions, and the file, at its start; closed when the next one is taken."""
        for names, file in self._parts:
            with file:
                file.seek(0)
                yield names, file

    def _full(self, more: int) -> bool:
        names, file = self._parts[-1]
        return len(names) == MOST or file.tell() + more >= LARGEST


class BatchDesk:
    """Where one run hands its batches in and fetches what comes of them."""

    def __init__(self, chat: OpenAIChat, directory: RunDirectory) -> None:
        self._chat, self._directory = chat, directory
        self._known: dict[str, Batch] = {}
        for event in read_lines(directory.path / BATCHES):
            self._apply(event)

    def under_way(self) -> list[Batch]:
        """Batches that were handed in and have not been fetched."""
        for batch in [b for b in self._known.values() if not b.ended and not b.id]:
            found = self._tried(lambda batch=batch: self._find(batch), "lists no batches")
            self._note(batch, {"id": found} if found else {"ended": "never handed in"})
        return [batch for batch in self._known.values() if not batch.ended]

    def hand_in(self, questions: list[str], file: IO[bytes]) -> None:
        """Raises `UsageError` where there is no batch API, `IncompleteError` where it fails."""
        name = f"{self._directory.path.name}-{len(self._known)}-{secrets.token_hex(4)}"
        batch = Batch(name, tuple(questions), time.time())
        uploaded = self._tried(lambda: self._upload(file), "takes no file")
        self._note(batch, {"questions": questions, "at": batch.at})
        tried: list[bool] = []

        def create() -> str:
            # An answer that was lost on the way says nothing of what was done.
            if tried and (found := self._find(batch)):
                return found
            tried.append(True)
            return self._create(batch, uploaded)

        self._note(batch, {"id": self._tried(create, "takes no batch")})

    def wait(self, batch: Batch, progress: Progress) -> Any:
        """The batch as the provider describes it at its end."""
        pause, done = self._chat.policy.pause, 0
        with progress.step(f"batch {batch.id}", len(batch.questions)) as step:
            while True:
                seen = self._tried(lambda: self._look(batch), "doesn't tell of its batch")
                counts = seen.request_counts
                now = (counts.completed or 0) + (counts.failed or 0) if counts else done
                step.note(seen.status)
                step.advance(max(0, now - done))
                if seen.status in _OVER:
                    return seen
                done = max(done, now)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def rows(self, seen: Any, questions: int) -> Iterator[dict[str, Any]]:
        """Lines of what came out, in the provider's order; those that are no JSON are left out."""
        for file in (seen.output_file_id, seen.error_file_id):
            if file:
                yield from self._rows(file, questions)

    def close(self, batch: Batch, status: str) -> None:
        """All that came of it is recorded."""
        self._note(batch, {"ended": status})

    def _note(self, batch: Batch, event: Mapping[str, Any]) -> None:
        noted = {"batch": batch.name, **event}
        self._directory.append_batch(noted)
        self._apply(noted)

    def _apply(self, event: Mapping[str, Any]) -> None:
        name = event["batch"]
        known = self._known.get(name) or Batch(name, tuple(event["questions"]), event["at"])
        known = replace(known, id=event.get("id", known.id))
        self._known[name] = replace(known, ended=event.get("ended", known.ended))

    def _tried(self, work: Any, what: str) -> Any:
        try:
            return self._chat.tried(work, what)
        except ChatError as error:
            raise IncompleteError(
                f"{error}; what was handed in goes on there, type the same command again"
            ) from error

    def _upload(self, file: IO[bytes]) -> str:
        import openai

        file.seek(0)
        try:
            with self._chat.file_client(LARGEST) as client:
                sent = client.files.create(file=("questions.jsonl", file), purpose="batch")
        except openai.APIStatusError as error:
            if error.status_code in _WITHOUT:
                raise UsageError(f"{self._chat.ref} has no batch API; leave --batch out") from None
            raise
        return _text(sent, "id")

    def _create(self, batch: Batch, file: str) -> str:
        made = self._chat.client().batches.create(
            input_file_id=file,
            endpoint=f"/v1{PATH}",  # type: ignore[arg-type]
            completion_window="24h",
            metadata={_NAME: batch.name},
        )
        return _text(made, "id")

    def _find(self, batch: Batch) -> str | None:
        for found in self._chat.client().batches.list(limit=100):
            if (found.metadata or {}).get(_NAME) == batch.name:
                return _text(found, "id")
            at = found.created_at
            if isinstance(at, int) and at < batch.at - _CLOCKS:
                break
        return None

    def _look(self, batch: Batch) -> Any:
        seen = self._chat.client().batches.retrieve(str(batch.id))
        _text(seen, "status")
        if seen.id != batch.id:
            raise PassingError(f"{self._chat.ref} told of another batch")
        return seen

    def _rows(self, file: str, questions: int) -> list[dict[str, Any]]:
        """A file that ends in the middle is fetched again; in the end, what is whole is taken."""
        whole: list[dict[str, Any]] = []

        def fetch() -> None:
            with self._chat.file_client(LARGEST + 20_000 * questions) as client:
                lines = client.files.content(file).text.splitlines()
            found = [row for line in lines if line.strip() and (row := _row(line)) is not None]
            if len(found) > len(whole):
                whole[:] = found
            if len(found) < sum(bool(line.strip()) for line in lines):
                raise PassingError(f"{self._chat.ref} sent half a file")

        try:
            self._chat.tried(fetch, "sends no replies")
        except ChatError as error:
            if not whole:
                raise IncompleteError(f"{error}; type the same command again") from error
        return whole


def _text(document: Any, name: str) -> str:
    """Endpoints send anything under status 200."""
    value = getattr(document, name, None)
    if not isinstance(value, str) or not value:
        raise PassingError(f"a batch API that sends no {name}")
    return value


def _row(line: str) -> dict[str, Any] | None:
    """None for half a line; what is no object names no question."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else {}
