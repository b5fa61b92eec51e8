"""OpenAI's or a compatible endpoint through the official client.

Keys are read from the environment, sent to the endpoint, and written nowhere. Whatever else an
endpoint does, a question ends with a reply of the model that was asked to this very question, or
with an error: never with a guess.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import ChatError, UsageError
from .bounded import ReplyTooLargeError, bounded_client
from .budget import Budget, assumed_usage
from .chat import Reply
from .endpoint import KEY_VARIABLE, Endpoint, provider_of, same_model, without_secrets
from .question import Form, new_entry, part_content, request_sha256
from .retry import PassingError, Policy, attempts, retry_after
from .transcript import Transcript

if TYPE_CHECKING:
    from openai import OpenAI
    from PIL.Image import Image

_REFUSED = {401, 403, 404}
"""Wrong key, no permission, no such model: the same for every sample."""
_PASSING = {408, 409, 425, 429}
_UNKNOWN_OPTION = {400, 422, 501}
_FORM_WORDS = ("response_format", "json_schema", "guided", "schema")


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
        self._policy = policy or Policy()
        self.concurrency = self._policy.concurrency
        self._endpoint = Endpoint.parse(ref)
        self._transcript = transcript or Transcript()
        self._budget = budget
        self._key = self._endpoint.key()
        self._model = self._endpoint.model
        self._opened: OpenAI | None = None
        self._takes_forms = True
        self._lock = threading.RLock()

    def ask(
        self, system: str, parts: Sequence[str | Image], key: str, form: Form | None = None
    ) -> Reply:
        digest = request_sha256(self.role, system, parts, key, form)
        requested = self._requested()
        known = self._transcript.find(digest, requested, self._params())
        if known is not None:
            return Reply(known["reply"], known["served"], known["usage"] or {}, cached=True)
        entry = new_entry(self.role, requested, system, parts, key, form)
        likely = assumed_usage(system, parts, self.max_tokens)
        with self._paid(likely):
            self._transcript.begin(digest)
            return self._recorded(_Call(self, system, parts, form), entry, likely)

    def describe(self) -> dict[str, Any]:
        requested = self._requested()
        provider = provider_of(requested)
        return {"provider": provider, "requested": requested, "params": self._params()}

    def comparable(self) -> dict[str, Any]:
        return self.describe()

    def _paid(self, likely: Mapping[str, int]) -> AbstractContextManager[None]:
        return self._budget.call(likely) if self._budget else nullcontext()

    def _recorded(self, call: _Call, entry: dict[str, Any], likely: Mapping[str, int]) -> Reply:
        """Make the call; whatever comes of it is on disk before anybody hears of it."""
        start = time.monotonic()
        try:
            reply, _ = attempts(call.attempt, self._policy)
            entry |= {"served": reply.model, "reply": reply.text}
            return reply
        except (ChatError, UsageError) as error:
            entry["error"] = {"type": type(error).__name__, "message": str(error)}
            raise
        finally:
            if call.answered and not call.usage:
                call.usage = Counter(likely)
            seconds = round(time.monotonic() - start, 3)
            entry |= {"params": self._params(), "usage": dict(call.usage), "seconds": seconds}
            entry |= {"attempts": call.made, "held_to_form": call.held}
            # A process that is being stopped has heard no reply: the call counts as lost.
            if entry["reply"] is not None or entry["error"] is not None:
                self._transcript.record(entry)

    def _requested(self) -> str:
        """The ref with its model: what an address serves may be another one tomorrow."""
        return self.ref if self._endpoint.model else f"{self.ref}#{self._asked_model()}"

    def _asked_model(self) -> str:
        with self._lock:
            if not self._model:
                names = attempts(self._served_models, self._policy)[0]
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
        import openai

        try:
            return [str(model.id) for model in self._client().models.list().data or []]
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except (openai.OpenAIError, ChatError, ValueError, OSError, AttributeError) as error:
            raise PassingError(self._clean(f"{self.ref} listed no models: {_why(error)}")) from None

    def _check_served(self, model: str) -> None:
        """Raises when another model than the one asked for, or than the first one, has answered."""
        asked = self._endpoint.served or self._asked_model()
        if not same_model(model, asked):
            raise PassingError(
                f"{self.ref} answered as {model!r}, not as {asked!r}; if that is the model you "
                f"mean, name it: #{self._asked_model()}={model}"
            )
        first = self._transcript.served(self._requested())
        if first is not None and model != first:
            raise PassingError(
                f"{self.ref} answered as {model!r}, earlier as {first!r}: two models are no judge; "
                "start a new run with the model's full name"
            )

    def _refusal(self, error: Any) -> ChatError | UsageError:
        status = error.status_code
        text = self._clean(f"{self.ref} refused with status {status}: {_message(error)}")
        if status in _REFUSED:
            return UsageError(f"{text}; check {KEY_VARIABLE} and the model's name")
        if status in _PASSING or status >= 500:
            return PassingError(text, retry_after(error.response.headers))
        return ChatError(text)

    def _client(self) -> OpenAI:
        with self._lock:
            if self._opened is None:
                from openai import OpenAI

                timeout = self._policy.timeout
                self._opened = OpenAI(
                    api_key=self._key or "none",
                    base_url=self._endpoint.url,
                    timeout=timeout,
                    max_retries=0,
                    http_client=bounded_client(timeout, trust_env=not self._endpoint.loopback),
                )
            return self._opened

    def _length(self) -> dict[str, int]:
        """OpenAI's own models know only the new name, other servers often only the old one."""
        return {"max_completion_tokens" if self._endpoint.hosted else "max_tokens": self.max_tokens}

    def _params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": self.max_tokens}

    def _clean(self, text: str) -> str:
        return without_secrets(text, self._key)


class _Call:
    """One question with all its attempts."""

    def __init__(
        self, chat: OpenAIChat, system: str, parts: Sequence[str | Image], form: Form | None
    ) -> None:
        self._chat, self._form = chat, form
        self._messages: list[Any] = [
            {"role": "system", "content": system},
            {"role": "user", "content": [part_content(part) for part in parts]},
        ]
        self.made = 0
        self.usage: Counter[str] = Counter()
        self.answered = False
        self.held = False

    def attempt(self) -> Reply:
        import openai

        self.made += 1
        try:
            return self._reply(self._send())
        except openai.APIStatusError as error:
            if self._refuses_form(error):
                self._chat._takes_forms = False
                return self.attempt()
            raise self._chat._refusal(error) from None
        except (openai.OpenAIError, ReplyTooLargeError, ValueError, OSError) as error:
            raise self._silence(error) from None

    def _send(self) -> Any:
        chat = self._chat
        self.held = self._form is not None and chat._takes_forms
        return chat._client().chat.completions.create(
            model=chat._asked_model(),
            messages=self._messages,
            temperature=0,
            extra_body={**chat._length(), **dict(self._format())},
        )

    def _format(self) -> Iterator[tuple[str, Any]]:
        if self.held and self._form:
            schema = {"name": "verdict", "strict": True, "schema": self._form.schema()}
            yield "response_format", {"type": "json_schema", "json_schema": schema}

    def _refuses_form(self, error: Any) -> bool:
        text = _message(error).lower()
        named = any(word in text for word in _FORM_WORDS)
        return self.held and error.status_code in _UNKNOWN_OPTION and named

    def _silence(self, error: Exception) -> ChatError:
        # The official client wraps what its transport raises, in some versions.
        large = any(isinstance(e, ReplyTooLargeError) for e in (error, error.__cause__))
        text = self._chat._clean(f"{self._chat.ref} did not answer: {_why(error)}")
        return PassingError(text) if not large else ChatError(text)

    def _reply(self, answer: Any) -> Reply:
        """Endpoints send anything under status 200; only a text of the right model is a reply."""
        counts = _counts(getattr(answer, "usage", None))
        self.answered = True
        self.usage.update(counts)
        choices = getattr(answer, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        text = getattr(getattr(first, "message", None), "content", None)
        # A model may end at once: that is its reply. Cut off before the first word, it has none.
        ended = getattr(first, "finish_reason", None) == "stop"
        if not isinstance(text, str) or not (text.strip() or ended):
            raise PassingError(
                f"{self._chat.ref} sent no text; is it an OpenAI-compatible chat endpoint?"
            )
        model = getattr(answer, "model", None)
        if not isinstance(model, str) or not model:
            raise PassingError(f"{self._chat.ref} doesn't say which model has answered")
        self._chat._check_served(model)
        if self._form and self._form.of_another(text):
            raise PassingError(f"{self._chat.ref} sent a reply to another question")
        return Reply(text, model, counts)


def _counts(usage: Any) -> dict[str, int]:
    found = {name: getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens")}
    return {name: n for name, n in found.items() if isinstance(n, int) and n > 0}


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body or error.message)[:300]


def _why(error: Exception) -> str:
    return f"{error or type(error).__name__}"[:300]
