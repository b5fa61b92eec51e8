"""Chat models behind roles (judge, explainer, refiner): OpenAI-compatible endpoints or a replay.

Keys are read from the environment, sent to the endpoint, and written nowhere.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ..errors import ChatError, UsageError
from .identity import file_sha256
from .question import new_entry, part_content, request_sha256
from .rundir import JUDGE
from .transcript import Transcript, recorded_replies

if TYPE_CHECKING:
    from openai import OpenAI
    from PIL.Image import Image

KEY_VARIABLE = "OPENAI_API_KEY"
_OPENAI_URL = "https://api.openai.com/v1"
_SECRET = re.compile(r"\b(sk|pk|key)-[\w*.-]{4,}")
_REFUSED = {401, 403, 404}
"""Wrong key, no permission, no such model: the same for every sample."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model said."""

    text: str
    model: str
    """The id that the endpoint says has answered."""
    usage: Mapping[str, int] = field(default_factory=dict)
    cached: bool = False
    """Taken from this run's own transcript."""


class ChatClient(Protocol):
    """A chat model in a role."""

    ref: str

    def ask(self, system: str, parts: Sequence[str | Image], key: str) -> Reply:
        """One question of texts and pictures.

        `key` names the item: the same question under another key is another question.
        Raises `ChatError` (about this item) or `UsageError` (about every item).
        """

    def describe(self) -> dict[str, Any]:
        """JSON facts for `run.json` and the identity: provider, model, parameters. No key.

        May ask the endpoint which model it serves; raises what `ask` raises.
        """

    def comparable(self) -> dict[str, Any]:
        """The part of it that runs must share to be compared: a replay's is the original's."""


def chat_client(ref: str, role: str, transcript: Transcript) -> ChatClient:
    """`openai/gpt-4o`, `http(s)://host[/v1][#model]`, `replay:FILE` (`judge.jsonl` or its run)."""
    if ref.startswith("replay:"):
        return ReplayChat(Path(ref.removeprefix("replay:")), role, transcript)
    return OpenAIChat(ref, role, transcript)


class OpenAIChat:
    """The official client on OpenAI's or a compatible endpoint. Temperature 0; it retries."""

    def __init__(
        self,
        ref: str,
        role: str = "judge",
        transcript: Transcript | None = None,
        *,
        timeout: float = 60.0,
        max_retries: int = 4,
        max_tokens: int = 512,
    ) -> None:
        """Raises `UsageError` when the ref is no endpoint or the key is missing. Stays offline."""
        self.ref = ref
        self.role = role
        self.max_tokens = max_tokens
        self._endpoint = _Endpoint.parse(ref)
        self._transcript = transcript or Transcript()
        self._key = self._endpoint.key()
        self._model = self._endpoint.model
        self._timeout = timeout
        self._max_retries = max_retries
        self._opened: OpenAI | None = None

    def ask(self, system: str, parts: Sequence[str | Image], key: str) -> Reply:
        digest = request_sha256(self.role, system, parts, key)
        requested = self._requested()
        known = self._transcript.find(digest, requested)
        if known is not None:
            return Reply(known["reply"], known["served"], known["usage"], cached=True)
        entry = new_entry(self.role, requested, system, parts, key) | {"params": self._params()}
        start = time.monotonic()
        try:
            reply = self._complete(system, parts)
        except (ChatError, UsageError) as error:
            self._record(entry, start, error={"type": type(error).__name__, "message": str(error)})
            raise
        self._record(entry, start, served=reply.model, reply=reply.text, usage=dict(reply.usage))
        return reply

    def describe(self) -> dict[str, Any]:
        requested = self._requested()
        provider = _provider(requested)
        return {"provider": provider, "requested": requested, "params": self._params()}

    def comparable(self) -> dict[str, Any]:
        return self.describe()

    def _requested(self) -> str:
        """The ref with its model: what an address serves may be another one tomorrow."""
        return self.ref if self._endpoint.model else f"{self.ref}#{self._served_model()}"

    def _complete(self, system: str, parts: Sequence[str | Image]) -> Reply:
        import openai

        messages: list[Any] = [
            {"role": "system", "content": system},
            {"role": "user", "content": [part_content(part) for part in parts]},
        ]
        try:
            answer = self._client().chat.completions.create(
                model=self._served_model(),
                messages=messages,
                temperature=0,
                extra_body=self._length(),
            )
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except (openai.OpenAIError, ValueError) as error:
            raise ChatError(
                self._clean(f"{self.ref} did not answer: {error or type(error).__name__}")
            ) from None
        return self._reply(answer)

    def _reply(self, answer: Any) -> Reply:
        """Endpoints send anything under status 200; only a text is a reply."""
        choices = getattr(answer, "choices", None)
        text = getattr(getattr(choices[0], "message", None), "content", None) if choices else None
        if not isinstance(text, str) or not text.strip():
            raise ChatError(f"{self.ref} sent no text; is it an OpenAI-compatible chat endpoint?")
        usage = getattr(answer, "usage", None)
        counts = {
            name: int(getattr(usage, name, 0) or 0)
            for name in ("prompt_tokens", "completion_tokens")
        }
        return Reply(text, str(getattr(answer, "model", None) or self._served_model()), counts)

    def _refusal(self, error: Any) -> ChatError | UsageError:
        text = self._clean(f"{self.ref} refused with status {error.status_code}: {_message(error)}")
        if error.status_code not in _REFUSED:
            return ChatError(text)
        return UsageError(f"{text}; check {KEY_VARIABLE} and the model's name")

    def _served_model(self) -> str:
        if not self._model:
            names = self._served_models()
            if not names:
                raise UsageError(f"{self.ref} lists no model; name one: {self.ref}#MODEL")
            if len(names) > 1:
                several = ", ".join(names)
                raise UsageError(f"{self.ref} serves {several}; name one: {self.ref}#{names[0]}")
            self._model = names[0]
        return self._model

    def _served_models(self) -> list[str]:
        import openai

        try:
            return [str(model.id) for model in self._client().models.list().data or []]
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except (openai.OpenAIError, ValueError, AttributeError) as error:
            raise ChatError(
                self._clean(f"{self.ref} listed no models: {error or type(error).__name__}")
            ) from None

    def _client(self) -> OpenAI:
        if self._opened is None:
            from openai import DefaultHttpxClient, OpenAI

            # A proxy of the environment can't reach this machine's own servers.
            self._opened = OpenAI(
                api_key=self._key or "none",
                base_url=self._endpoint.url,
                timeout=self._timeout,
                max_retries=self._max_retries,
                http_client=DefaultHttpxClient(trust_env=not self._endpoint.loopback),
            )
        return self._opened

    def _length(self) -> dict[str, int]:
        """OpenAI's own models know only the new name, other servers often only the old one."""
        return {"max_completion_tokens" if self._endpoint.hosted else "max_tokens": self.max_tokens}

    def _params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": self.max_tokens}

    def _record(self, entry: Mapping[str, Any], start: float, **result: Any) -> None:
        self._transcript.record({**entry, **result, "seconds": round(time.monotonic() - start, 3)})

    def _clean(self, text: str) -> str:
        """Endpoints quote the key back in their errors."""
        return _SECRET.sub("[key]", text.replace(self._key, "[key]") if self._key else text)


class ReplayChat:
    """Answers from a recording, by content: never by position, never by making something up."""

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

    def ask(self, system: str, parts: Sequence[str | Image], key: str) -> Reply:
        entry = self._replies.get(request_sha256(self.role, system, parts, key))
        if entry is None:
            raise ChatError(
                f"{self.file} has no reply for {key!r}; the prompt, the picture or the item differs"
            )
        if self._transcript.find(entry["request_sha256"], entry["requested"]) is None:
            self._transcript.record(entry)
        return Reply(entry["reply"], entry["served"], entry["usage"], cached=True)

    def describe(self) -> dict[str, Any]:
        requested = self._recorded("requested")
        return {"provider": "replay", "requested": requested, "file_sha256": file_sha256(self.file)}

    def comparable(self) -> dict[str, Any]:
        """As the recorded client described itself; of several, all that they were."""
        requested, params = self._recorded("requested"), self._recorded("params")
        if len(requested) != 1 or len(params) != 1:
            return {"provider": "replay", "requested": requested, "params": params}
        return {
            "provider": _provider(requested[0]),
            "requested": requested[0],
            "params": params[0],
        }

    def _recorded(self, field: str) -> list[Any]:
        """The distinct values of a field over all replies, in a fixed order."""
        found = {json.dumps(e[field], sort_keys=True): e[field] for e in self._replies.values()}
        return [found[key] for key in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    model: str | None
    hosted: bool

    @classmethod
    def parse(cls, ref: str) -> _Endpoint:
        if ref.startswith("openai/") and len(ref) > len("openai/"):
            return cls(_OPENAI_URL, ref.removeprefix("openai/"), hosted=True)
        parts = urlsplit(ref)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{ref!r} is no chat model; write openai/MODEL, http(s)://HOST/v1#MODEL "
                "or replay:FILE"
            )
        if parts.username or parts.password or parts.query:
            raise UsageError(
                f"the address of {parts.hostname} holds credentials; put the key in {KEY_VARIABLE}"
            )
        path = parts.path.rstrip("/") or "/v1"
        return cls(f"{parts.scheme}://{parts.netloc}{path}", parts.fragment or None, hosted=False)

    @property
    def loopback(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def key(self) -> str | None:
        """The key to send. None where none is needed, and never in clear text over a network."""
        key = os.environ.get(KEY_VARIABLE)
        if self.hosted and not key:
            raise UsageError(f"no key for openai/{self.model}; set {KEY_VARIABLE}")
        secret = self.loopback or self.url.startswith("https://")
        return key if key and secret else None


def _provider(ref: str) -> str:
    return "openai" if ref.startswith("openai/") else "url"


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)[:300]
