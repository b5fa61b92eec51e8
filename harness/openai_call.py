"""One question to an OpenAI-compatible endpoint: what is sent, and what counts as its reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ChatError
from .bounded import ReplyTooLargeError
from .chat import Reply
from .question import Form, part_content
from .retry import PassingError

if TYPE_CHECKING:
    from PIL.Image import Image

    from .openai_chat import OpenAIChat

PATH = "/chat/completions"
_UNKNOWN_OPTION = {400, 422, 501}
_FORM_WORDS = ("response_format", "json_schema", "guided", "schema")


class Call:
    """One question with all its attempts."""

    def __init__(
        self, chat: OpenAIChat, system: str, parts: Sequence[str | Image], form: Form | None
    ) -> None:
        self.system, self.parts = system, parts
        self.form = form
        self._chat = chat
        self.made = 0
        self.usage: Counter[str] = Counter()
        self.answered = False
        self.whole = False
        """Whether the model came to an end of its own, and what it said is in the form."""
        self.held = False

    @property
    def held_now(self) -> bool:
        """Whether the endpoint would be held to the form."""
        return self.form is not None and self._chat.takes_forms

    def attempt(self) -> Reply:
        import openai

        self.made += 1
        try:
            return self.reply(self._send())
        except openai.APIStatusError as error:
            if self.refuses_form(error.status_code, message_of(error)):
                self._chat.takes_forms = False
                return self.attempt()
            raise self._chat.refusal(error) from None
        except (openai.OpenAIError, ReplyTooLargeError, ValueError, OSError) as error:
            raise self._silence(error) from None

    def document(self) -> dict[str, Any]:
        """The whole request, as it travels."""
        self.held = self.held_now
        messages = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": [part_content(part) for part in self.parts]},
        ]
        asked = {"model": self._chat.asked_model(), "messages": messages, "temperature": 0}
        return {**asked, **self._chat.length(), **dict(self._format())}

    def _send(self) -> Any:
        more = self.document()
        model, messages = more.pop("model"), more.pop("messages")
        completions = self._chat.client().chat.completions
        return completions.create(model=model, messages=messages, extra_body=more)

    def _format(self) -> Iterator[tuple[str, Any]]:
        if self.held and self.form:
            schema = {"name": "verdict", "strict": True, "schema": self.form.schema()}
            yield "response_format", {"type": "json_schema", "json_schema": schema}

    def refuses_form(self, status: int, message: str) -> bool:
        """Whether the endpoint complains about the form, not about the question."""
        named = any(word in message.lower() for word in _FORM_WORDS)
        return self.held and status in _UNKNOWN_OPTION and named

    def _silence(self, error: Exception) -> ChatError:
        # The official client wraps what its transport raises, in some versions.
        large = any(isinstance(e, ReplyTooLargeError) for e in (error, error.__cause__))
        text = self._chat.clean(f"{self._chat.ref} did not answer: {why(error)}")
        return PassingError(text) if not large else ChatError(text)

    def reply(self, answer: Any) -> Reply:
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
        self._chat.check_served(model)
        if self.form and self.form.of_another(text):
            raise PassingError(f"{self._chat.ref} sent a reply to another question")
        self.whole = ended and (self.form is None or self.form.read(text) is not None)
        return Reply(text, model, counts)


def _counts(usage: Any) -> dict[str, int]:
    found = {name: getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens")}
    return {name: n for name, n in found.items() if isinstance(n, int) and n > 0}


def message_of(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body or error.message)[:300]


def why(error: Exception) -> str:
    return f"{error or type(error).__name__}"[:300]
