"""A judge that is asked in batches: cheaper, and answered within a day.

Before a task is evaluated all its questions are gathered, handed in and waited for; evaluated, it
then finds the replies in the transcript as if it had been resumed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ChatError, IncompleteError
from .batch_desk import Batch, BatchDesk, Spool
from .budget import BATCH_SHARE, assumed_usage
from .openai_call import Call
from .openai_chat import OpenAIChat

if TYPE_CHECKING:
    from .chat import Reply
    from .progress import Progress
    from .question import Form
    from .rundir import RunDirectory

_WAITS = "waits for its batch"


@dataclass(frozen=True, slots=True)
class _Question:
    """All that is needed of a question when its reply comes; the pictures have gone to the file."""

    entry: dict[str, Any]
    form: Form | None
    held: bool
    likely: Mapping[str, int]
    fresh: bool


class BatchChat(OpenAIChat):
    """The first question goes out alone, so that a wrong key or model shows at once."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._gathering = False
        self._gathered: dict[str, _Question] = {}
        self._spool = Spool()
        self._under_way: set[str] = set()
        self._failed: dict[str, str] = {}
        self._aside = 0.0
        self._over: IncompleteError | None = None
        self._later = False
        self._alone = False
        self._opening = threading.Lock()
        """Held by the question that goes alone: what it shows counts for all that are gathered."""

    def rounds(self, directory: RunDirectory, progress: Progress) -> Iterator[None]:
        """Evaluate a task each time that this yields: it gathers; then all replies are there.

        Raises `IncompleteError` where the next batch may go over the cost limit, or the provider
        can't be reached: what was handed in is found again by the same command.
        """
        desk = BatchDesk(self, directory)
        again = True
        while again:
            self._begin(desk)
            try:
                yield
            finally:
                self._gathering = False
            if self._over and not self._gathered:
                raise self._over
            for names, file in self._spool.files():
                desk.hand_in(names, file)
            refused = [self._fetched(desk, batch, progress) for batch in desk.under_way()]
            again = self._later or self._over is not None or any(refused)

    def _begin(self, desk: BatchDesk) -> None:
        self._under_way = {name for batch in desk.under_way() for name in batch.questions}
        self._gathered, self._spool = {}, Spool()
        self._aside, self._over, self._later = 0.0, None, False
        self._gathering = True

    def _live(self, call: Call, entry: dict[str, Any], *, fresh: bool = False) -> Reply:
        name = entry["request_sha256"]
        if name in self._failed:
            raise ChatError(self._failed[name])
        # What could not be gathered, as it hangs on another reply, is asked in the usual way.
        if not self._gathering:
            return self._alone_or_failed(call, entry, fresh=fresh)
        with self._opening:
            if self._goes_alone(entry):
                return self._alone_or_failed(call, entry, fresh=fresh)
        with self._lock:
            self._gather(call, entry, fresh=fresh)
        raise ChatError(_WAITS)

    def _goes_alone(self, entry: Mapping[str, Any]) -> bool:
        first, self._alone = not self._alone, True
        return first and self._transcript.served(entry["requested"]) is None

    def _alone_or_failed(self, call: Call, entry: dict[str, Any], *, fresh: bool) -> Reply:
        try:
            return super()._live(call, entry, fresh=fresh)
        except ChatError as error:
            self._failed[entry["request_sha256"]] = str(error)
            raise

    def _gather(self, call: Call, entry: dict[str, Any], *, fresh: bool) -> None:
        name = entry["request_sha256"]
        likely = assumed_usage(call.system, call.parts, self.max_tokens)
        question = _Question(entry, call.form, call.held_now, likely, fresh)
        if name in self._gathered:
            return
        if name not in self._under_way:
            if not self._affordable(likely):
                return
            self._spool.add(name, call.document())
        self._gathered[name] = question

    def _affordable(self, likely: Mapping[str, int]) -> bool:
        if self._budget is None:
            return True
        if self._under_way:
            # What was handed in before a kill is not paid yet: only then is it known what is left.
            self._later = True
            return False
        cost = BATCH_SHARE * self._budget.price.of(likely)
        try:
            self._budget.check(self._aside + cost)
        except IncompleteError as error:
            self._over = error
            return False
        self._aside += cost
        return True

    def _fetched(self, desk: BatchDesk, batch: Batch, progress: Progress) -> bool:
        """Record what came of a batch. Whether questions go out again, without a form."""
        seen = desk.wait(batch, progress)
        refused = False
        for row in desk.rows(seen, len(batch.questions)):
            name = row.get("custom_id")
            if name in batch.questions and (question := self._gathered.pop(name, None)):
                refused |= not self._take(question, row, str(batch.id))
        for name in batch.questions:
            if question := self._gathered.pop(name, None):
                error = f"batch {batch.id} ended as {seen.status} without a reply{_why(seen)}"
                self._record(question, str(batch.id), Call(self, "", (), None), self.clean(error))
        desk.close(batch, seen.status)
        return refused

    def _take(self, question: _Question, row: Mapping[str, Any], batch: str) -> bool:
        """Record one line of what came out. False where it goes out again."""
        call = Call(self, question.entry["system"], (), question.form)
        call.held = question.held
        try:
            status, body = _response(row)
            if status != 200:
                if call.refuses_form(status, str(body)):
                    self.takes_forms = False
                    return False
                raise ChatError(f"{self.ref} refused with status {status}: {str(body)[:300]}")
            reply = call.reply(_completion(body))
        except ChatError as error:
            self._record(question, batch, call, self.clean(str(error)))
            return True
        question.entry.update(served=reply.model, reply=reply.text)
        self._record(question, batch, call, None)
        return True

    def _record(self, question: _Question, batch: str, call: Call, error: str | None) -> None:
        entry = question.entry
        if call.answered and not call.usage:
            call.usage = Counter(question.likely)
        entry.update(usage=dict(call.usage), attempts=1, held_to_form=question.held, batch=batch)
        if error is not None:
            entry["error"] = {"type": "ChatError", "message": error}
            self._failed[entry["request_sha256"]] = error
        self._transcript.record(entry)
        if call.whole and not question.fresh:
            self._transcript.keep(entry)


def _response(row: Mapping[str, Any]) -> tuple[int, Any]:
    response = row.get("response")
    if isinstance(response, dict) and type(response.get("status_code")) is int:
        return response["status_code"], response.get("body")
    raise ChatError(f"the batch brought no reply: {str(row.get('error'))[:300]}")


def _completion(body: Any) -> Any:
    from openai.types.chat import ChatCompletion

    if not isinstance(body, dict):
        raise ChatError("the batch brought a reply that is no object")
    return ChatCompletion.construct(**body)


def _why(seen: Any) -> str:
    errors = seen.errors.data if seen.errors and seen.errors.data else []
    return f": {str(errors[0].message)[:300]}" if errors else ""
