"""OpenAI's or a compatible endpoint through the official client.

Keys are read from the environment, sent to the endpoint, and written nowhere. Whatever else an
endpoint does, a question ends with a reply of the model that was asked to this very question, or
with an error: never with a guess.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ChatError, UsageError
from .bounded import LARGEST_REPLY, bounded_client
from .budget import Budget, assumed_usage
from .chat import Reply
from .endpoint import KEY_VARIABLE, Endpoint, provider_of, same_model, without_secrets
from .openai_call import Call, message_of, why
from .question import Form, new_entry
from .retry import PassingError, Policy, attempts, retry_after
from .transcript import Transcript

if TYPE_CHECKING:
    from openai import OpenAI
    from PIL.Image import Image

T = TypeVar("T")
_FILE_TIMEOUT = 1800.0
_REFUSED = {401, 403, 404}
"""Wrong key, no permission, no such model: the same for every sample."""
_PASSING = {408, 409, 425, 429}


class OpenAIChat:
    """Temperature 0, tried again within the policy, held to a form where the endpoint can."""

    def __init__(
        self,
        ref: str,
        role: str = "judge",
        transcript: Transcript | None = None,
        policy: Policy | None = None,
        budget: Budget | None = None,
        *,
        max_tokens: int = 512,
    ) -> None:
        """Raises `UsageError` when the ref is no endpoint or the key is missing. Stays offline."""
        self.ref = ref
        self.role = role
        self.max_tokens = max_tokens
        self.policy = policy or Policy()
        self.concurrency = self.policy.concurrency
        self._endpoint = Endpoint.parse(ref)
        self._transcript = transcript or Transcript()
        self._budget = budget
        self._key = self._endpoint.key()
        self._model = self._endpoint.model
        self._opened: OpenAI | None = None
        self.takes_forms = True
        self._lock = threading.RLock()
        self._first = threading.Lock()
        """Held by the first question of a process, which says who answers today."""
        self._begun = False

    def ask(
        self,
        system: str,
        parts: Sequence[str | Image],
        key: str,
        form: Form | None = None,
        *,
        fresh: bool = False,
    ) -> Reply:
        requested = self.requested()
        entry = new_entry(self.role, requested, system, parts, key, form)
        entry["params"] = self._params()
        if known := self._transcript.known(entry["request_sha256"], requested, entry["params"]):
            return known
        call = Call(self, system, parts, form)
        if fresh or self._transcript.kept is None:
            return self._live(call, entry, fresh=fresh)
        # The first is asked alone: its reply says whose replies of before may be taken.
        with self._first:
            if not self._begun:
                self._begun = True
                return self._live(call, entry)
        entry["held_to_form"] = call.held_now
        before = self._transcript.from_before(entry, self._transcript.served(requested))
        return before or self._live(call, entry)

    def describe(self) -> dict[str, Any]:
        requested = self.requested()
        provider = provider_of(requested)
        return {"provider": provider, "requested": requested, "params": self._params()}

    def comparable(self) -> dict[str, Any]:
        return self.describe()

    def _live(self, call: Call, entry: dict[str, Any], *, fresh: bool = False) -> Reply:
        likely = assumed_usage(call.system, call.parts, self.max_tokens)
        with self._paid(likely):
            self._transcript.begin(entry["request_sha256"])
            reply = self._recorded(call, entry, likely)
        if call.whole and not fresh:
            self._transcript.keep(entry)
        return reply

    def _paid(self, likely: Mapping[str, int]) -> AbstractContextManager[None]:
        return self._budget.call(likely) if self._budget else nullcontext()

    def _recorded(self, call: Call, entry: dict[str, Any], likely: Mapping[str, int]) -> Reply:
        """Make the call; whatever comes of it is on disk before anybody hears of it."""
        start = time.monotonic()
        try:
            reply, _ = attempts(call.attempt, self.policy)
            entry |= {"served": reply.model, "reply": reply.text}
            return reply
        except (ChatError, UsageError) as error:
            entry["error"] = {"type": type(error).__name__, "message": str(error)}
            raise
        finally:
            if call.answered and not call.usage:
                call.usage = Counter(likely)
            seconds = round(time.monotonic() - start, 3)
            entry |= {"usage": dict(call.usage), "seconds": seconds}
            entry |= {"attempts": call.made, "held_to_form": call.held}
            # A process that is being stopped has heard no reply: the call counts as lost.
            if entry["reply"] is not None or entry["error"] is not None:
                self._transcript.record(entry)

    def requested(self) -> str:
        """The ref with its model: what an address serves may be another one tomorrow."""
        return self.ref if self._endpoint.model else f"{self.ref}#{self.asked_model()}"

    def asked_model(self) -> str:
        with self._lock:
            if not self._model:
                names = self.tried(self._served_models, "listed no models")
                if not names:
                    raise UsageError(f"{self.ref} lists no model; name one: {self.ref}#MODEL")
                if len(names) > 1:
                    several = ", ".join(names)
                    raise UsageError(
                        f"{self.ref} serves {several}; name one: {self.ref}#{names[0]}"
                    )
                self._model = names[0]
            return self._model

    def _served_models(self) -> list[str]:
        return [str(model.id) for model in self.client().models.list().data or []]

    def tried(self, work: Callable[[], T], what: str) -> T:
        """What the official client does, tried again within the policy.

        Args:
            what: the endpoint's fault should it fail, as in "lists no models".
        """
        import openai

        def once() -> T:
            try:
                return work()
            except openai.APIStatusError as error:
                raise self.refusal(error) from None
            except PassingError:
                raise
            except (openai.OpenAIError, ChatError, ValueError, OSError, AttributeError) as error:
                raise PassingError(self.clean(f"{self.ref} {what}: {why(error)}")) from None

        return attempts(once, self.policy)[0]

    def check_served(self, model: str) -> None:
        """Raises when another model than the one asked for, or than the first one, has answered."""
        asked = self._endpoint.served or self.asked_model()
        if not same_model(model, asked):
            raise PassingError(
                f"{self.ref} answered as {model!r}, not as {asked!r}; if that is the model you "
                f"mean, name it: #{self.asked_model()}={model}"
            )
        first = self._transcript.served(self.requested())
        if first is not None and model != first:
            raise PassingError(
                f"{self.ref} answered as {model!r}, earlier as {first!r}: two models are no judge; "
                "start a new run with the model's full name"
            )

    def refusal(self, error: Any) -> ChatError | UsageError:
        status = error.status_code
        text = self.clean(f"{self.ref} refused with status {status}: {message_of(error)}")
        if status in _REFUSED:
            return UsageError(f"{text}; check {KEY_VARIABLE} and the model's name")
        if status in _PASSING or status >= 500:
            return PassingError(text, retry_after(error.response.headers))
        return ChatError(text)

    def client(self) -> OpenAI:
        """The official client, with bounds on the time and size of every reply."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open(self.policy.timeout, LARGEST_REPLY)
            return self._opened

    def file_client(self, largest: int) -> OpenAI:
        """The same for files of so many bytes, which take their time."""
        return self._open(_FILE_TIMEOUT, largest)

    def _open(self, timeout: float, largest: int) -> OpenAI:
        from openai import OpenAI

        return OpenAI(
            api_key=self._key or "none",
            base_url=self._endpoint.url,
            timeout=timeout,
            max_retries=0,
            http_client=bounded_client(
                timeout, trust_env=not self._endpoint.loopback, largest=largest
            ),
        )

    def length(self) -> dict[str, int]:
        """OpenAI's own models know only the new name, other servers often only the old one."""
        return {"max_completion_tokens" if self._endpoint.hosted else "max_tokens": self.max_tokens}

    def _params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": self.max_tokens}

    def clean(self, text: str) -> str:
        return without_secrets(text, self._key)
