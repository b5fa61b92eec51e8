"""Who explains, who shortens, who names the concept: the chat roles of a run, and their prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UnknownNameError, UsageError
from .prompts import CONCEPT, EXPLAIN, REFINE, PromptText

if TYPE_CHECKING:
    from ...harness.chat import ChatClient
    from .imported import Published

SELF, SOFT_WPMI, LOCAL = "self", "soft-wpmi", "hf:"
"""Explainers that are no chat models: the LMM under study, labels by CLIP alone, another LMM."""
PROMPTS: Mapping[str, PromptText] = {"explainer": EXPLAIN, "refiner": REFINE, "labeller": CONCEPT}


@dataclass(frozen=True)
class Roles:
    """What was asked for. With the defaults the LMM explains itself in the set's own words."""

    explainer: str = SELF
    explainer_client: ChatClient | None = field(default=None, repr=False)
    refiner: ChatClient | None = field(default=None, repr=False)
    labeller: ChatClient | None = field(default=None, repr=False)
    second_labeller: ChatClient | None = field(default=None, repr=False)
    prompts: Mapping[str, PromptText] = field(default_factory=lambda: PROMPTS)
    published: Published | None = field(default=None, repr=False)
    """Explanations from files: nobody is asked."""

    def document(self) -> dict[str, Any]:
        """JSON facts for the identity of a run; empty for the defaults."""
        return self._facts(lambda client: client.describe())

    def comparable(self) -> dict[str, Any]:
        """The part that runs must share to be compared: a replay's is the original's."""
        return self._facts(lambda client: client.comparable())

    def _facts(self, about: Callable[[ChatClient], dict[str, Any]]) -> dict[str, Any]:
        if self.published is not None:
            return {"explanations": self.published.sha256}
        found: dict[str, Any] = {}
        if self.explainer_client is not None:
            found["explainer"] = about(self.explainer_client)
        elif self.explainer != SELF:
            found["explainer"] = self.explainer
        for name in ("refiner", "labeller", "second_labeller"):
            if client := getattr(self, name):
                found[name] = about(client)
        if self.explainer_client is not None or self.second_labeller is not None:
            found["prompts"] = {
                name: [prompt.name, prompt.sha256] for name, prompt in self.prompts.items()
            }
        return found


def open_roles(
    refs: Mapping[str, str | None],
    open_chat: Callable[[str, str], ChatClient],
    prompt_file: Path | None = None,
) -> Roles:
    """The roles of a command.

    Args:
        refs: `explainer`, `refiner`, `labeller`, `second_labeller`; None where nobody is named. A
            chat explainer is its own refiner and labeller unless another is named.
        open_chat: a chat model by its ref and its role.
    """
    ref = refs.get("explainer") or SELF
    others = {name: refs.get(name) for name in ("refiner", "labeller", "second_labeller")}
    if ref in (SELF, SOFT_WPMI) or ref.startswith(LOCAL):
        if named := [name for name, other in others.items() if other and name != "second_labeller"]:
            raise UsageError(
                f"a {named[0]} has nothing to do: {ref} explains in the words of the image set; "
                "name a chat model as --explainer"
            )
        client = None
    else:
        client = open_chat(ref, "explainer")
        client.describe()  # an address that serves no model says so now
        others |= {name: others[name] or ref for name in ("refiner", "labeller")}
    chats: dict[str, Any] = {
        name: open_chat(other, name) for name, other in others.items() if other
    }
    prompts = {**PROMPTS, **(read_prompts(prompt_file) if prompt_file else {})}
    return replace(Roles(ref, client, prompts=prompts), **chats)


def read_prompts(file: Path) -> dict[str, PromptText]:
    """A JSON object of the user's own prompts by role. Raises `UsageError` for anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is no JSON file of prompts: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UsageError(f'{file} must be like {{"explainer": "..."}}; roles: {", ".join(PROMPTS)}')
    for role in found:
        if role not in PROMPTS:
            raise UnknownNameError("prompt", role, list(PROMPTS))
    return {role: PromptText(f"{file.name}:{role}", text) for role, text in found.items()}
