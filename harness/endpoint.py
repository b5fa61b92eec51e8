"""Where a chat model is: the parts of `openai/gpt-4o` and `http(s)://host[/v1][#model[=served]]`."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
_OPENAI = "openai/"
_OPENAI_URL = "https://api.openai.com/v1"
_SECRET = re.compile(r"\b(sk|pk|key)-[\w*.-]{4,}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible address. `model` is None where the ref names none."""

    url: str
    model: str | None
    hosted: bool
    served: str | None = None
    """The name that the endpoint answers under, where that is not the one it is asked by."""

    @classmethod
    def parse(cls, ref: str) -> Endpoint:
        """Raises `UsageError` for what is no endpoint, and for credentials in an address."""
        if ref.startswith(_OPENAI) and len(ref) > len(_OPENAI):
            return cls(_OPENAI_URL, ref.removeprefix(_OPENAI), hosted=True)
        parts = urlsplit(ref)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{ref!r} is no chat model; write openai/MODEL, http(s)://HOST/v1#MODEL, "
                "hf:FOLDER or replay:FILE"
            )
        if parts.username or parts.password or parts.query:
            raise UsageError(
                f"the address of {parts.hostname} holds credentials; put the key in {KEY_VARIABLE}"
            )
        path = parts.path.rstrip("/") or "/v1"
        model, _, served = parts.fragment.partition("=")
        url = f"{parts.scheme}://{parts.netloc}{path}"
        return cls(url, model or None, hosted=False, served=served or None)

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine: a proxy can't reach it, and nobody listens in between."""
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


def provider_of(ref: str) -> str:
    return "openai" if ref.startswith(_OPENAI) else "url"


def without_secrets(text: str, key: str | None) -> str:
    """Endpoints quote the key back in their errors."""
    return _SECRET.sub("[key]", text.replace(key, "[key]") if key else text)


def same_model(served: str, asked: str) -> bool:
    """Whether a model may answer under this name when asked by that: a dated or tagged form of it.

    `gpt-4o` answers as `gpt-4o-2024-08-06`, `org/name` as `name`, `folder` as `folder@main`.
    """
    if served == asked or served.rpartition("/")[2] == asked.rpartition("/")[2]:
        return True
    return served.startswith((f"{asked}@", f"{asked}:")) or _dated(served, asked)


def _dated(served: str, asked: str) -> bool:
    # Not any suffix: gpt-4o-mini is another model than gpt-4o.
    rest = served.removeprefix(f"{asked}-")
    return rest != served and rest[:1].isdigit()
