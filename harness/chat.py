"""Chat models behind roles (judge, explainer, refiner), and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .retry import Policy

if TYPE_CHECKING:
    from PIL.Image import Image

    from .budget import Budget
    from .question import Form
    from .transcript import Transcript


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model said."""

    text: str
    model: str
    """The id that the endpoint says has answered."""
    usage: Mapping[str, int] = field(default_factory=dict)
    cached: bool = False
    """Taken from this run's own transcript, or from a reply kept by an earlier run."""


class ChatClient(Protocol):
    """A chat model in a role."""

    ref: str
    concurrency: int
    """How many threads may ask at once."""

    def ask(
        self,
        system: str,
        parts: Sequence[str | Image],
        key: str,
        form: Form | None = None,
        *,
        fresh: bool = False,
    ) -> Reply:
        """One question of texts and pictures.

        `key` names the item: the same question under another key is another question. With a `form`
        an endpoint that can is held to it, and a reply that names another item is no reply.
        `fresh`: a repeat, which no reply of another run may answer.
        Raises `ChatError` (about this item), `UsageError` (about every item) or `IncompleteError`
        (no more calls).
        """

    def describe(self) -> dict[str, Any]:
        """JSON facts for `run.json` and the identity: provider, model, parameters. No key.

        May ask the endpoint which model it serves; raises what `ask` raises.
        """

    def comparable(self) -> dict[str, Any]:
        """The part of it that runs must share to be compared: a replay's is the original's."""


def chat_client(
    ref: str,
    role: str,
    transcript: Transcript,
    policy: Policy | None = None,
    budget: Budget | None = None,
    *,
    batch: bool = False,
) -> ChatClient:
    """`openai/gpt-4o`, `http(s)://host[/v1][#model]`, `replay:FILE` (`judge.jsonl` or its run)."""
    from .batch_chat import BatchChat
    from .openai_chat import OpenAIChat
    from .replay import ReplayChat

    if ref.startswith("replay:"):
        return ReplayChat(Path(ref.removeprefix("replay:")), role, transcript)
    make = BatchChat if batch else OpenAIChat
    return make(ref, role, transcript, policy or Policy(), budget)
