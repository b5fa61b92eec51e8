"""Chat models as explainer, refiner and concept labeller: asked, read by their marks, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import ChatError
from .explain import Explanation, concept_named, normalised
from .imageset import CONCEPTS
from .prompts import ANSWER, EXPLANATION, NOTHING, described

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.chat import ChatClient
    from ...harness.progress import Progress
    from .roles import Roles

LONGEST = 80
"""Characters of a label: what is longer was not shortened."""


class BrokenReplyError(ChatError):
    """A reply that keeps to no mark: neither an answer nor a refusal."""


class ChatExplainer:
    """Sees a latent's exemplars, says what they share; the refiner shortens it, the labeller sorts.

    A refusal is `unscorable`; a broken reply or connection is `error`.
    """

    def __init__(self, roles: Roles, vocabulary: Mapping[str, str]) -> None:
        assert roles.explainer_client is not None
        self._explainer, self._roles = roles.explainer_client, roles
        self._vocabulary = vocabulary
        self.identity = json.dumps(["chat/1", roles.document(), sorted(vocabulary.items())])

    def explain(
        self,
        exemplars: Sequence[Sequence[Image]],
        progress: Progress,
        names: Sequence[str] = (),
    ) -> list[Explanation]:
        found = []
        with progress.step("explaining", len(exemplars)) as step:
            for images, name in zip(exemplars, names, strict=True):
                found.append(self._explained(images, name))
                step.advance()
        return found

    def _explained(self, images: Sequence[Image], name: str) -> Explanation:
        if not images:
            return Explanation("unscorable", reason="no exemplars")
        try:
            return self._asked(images, name)
        except ChatError as error:
            return Explanation("error", reason=str(error))

    def _asked(self, images: Sequence[Image], name: str) -> Explanation:
        prompt = self._roles.prompts["explainer"]
        question = f"Here are {len(images)} pictures. What do their bright regions have in common?"
        reply = self._explainer.ask(prompt.text, [*images, question], name)
        detail = {"explainer": reply.model, "raw": reply.text[:500], **prompt.provenance()}
        text = after_mark(reply.text, EXPLANATION, "explainer")
        if text is None:
            return Explanation("unscorable", reason="refused", detail=detail)
        label = self._refined(text, name)
        if label is None:
            return Explanation(
                "unscorable", text, reason="the refiner found nothing", detail=detail
            )
        return self._sorted(Explanation("ok", text, label, detail=detail), name)

    def _refined(self, text: str, name: str) -> str | None:
        assert self._roles.refiner is not None
        prompt = self._roles.prompts["refiner"]
        reply = self._roles.refiner.ask(prompt.text, [described(text)], name)
        found = after_mark(reply.text, ANSWER, "refiner")
        label = normalised(found) if found else None
        if label is not None and not 0 < len(label) <= LONGEST:
            raise BrokenReplyError(f"the refiner's answer is no short label: {label[:100]!r}")
        return label

    def _sorted(self, said: Explanation, name: str) -> Explanation:
        """With its concept: the image set's own for a label that it knows, else the labeller's."""
        label = said.label or ""
        if (known := self._vocabulary.get(label)) is not None:
            return replace(said, concept=known)
        assert self._roles.labeller is not None
        return replace(said, concept=ask_concept(self._roles.labeller, self._roles, label, name))


def ask_concept(client: ChatClient, roles: Roles, label: str, name: str) -> str:
    """What a labeller sorts a label into. Raises `ChatError` for what is none of the six."""
    return one_concept(client.ask(roles.prompts["labeller"].text, [described(label)], name).text)


def after_mark(reply: str, mark: str, role: str) -> str | None:
    """The text after the last mark; None for a refusal. Raises `BrokenReplyError` without either.

    A refusal counts after the mark too: models that were told to begin with it do so.
    """
    _, found, text = reply.rpartition(mark)
    if NOTHING.casefold() in (text if found else reply).casefold():
        return None
    if not found or not text.strip():
        raise BrokenReplyError(f"the {role} said neither {mark} nor that it can't: {reply[:100]!r}")
    return text.strip()


def one_concept(reply: str) -> str:
    """Exactly one of the six, whatever its case. Raises `BrokenReplyError` for anything else."""
    said = concept_named(reply)
    if said is None:
        raise BrokenReplyError(f"{reply[:100]!r} is none of {', '.join(CONCEPTS)}")
    return said
