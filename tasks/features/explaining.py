"""The explainer role of a run: which one it is, and its explanations of sampled latents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...errors import ChatError
from .chat_explainer import ChatExplainer, ask_concept
from .explain import Explanation, SelfExplainer
from .kept import BYTES
from .masks import dimmed, shown_mask
from .roles import LOCAL, SELF, SOFT_WPMI

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.task import Context
    from ..subject import Subject
    from .explain import Explainer
    from .imageset import SizeOf
    from .roles import Roles
    from .study import CachedImages, Living
    from .surveying import Survey


SECOND = "second_concept"
"""Where an explanation's detail keeps what the second labeller says."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Explains the sampled latents of some SAEs."""

    identity: str
    """Changes whenever an explanation could."""
    write: Callable[[Sequence[Living]], list[list[Explanation]]]


def writer(context: Context[Subject]) -> Writer:
    """The one that the run asks for, its labels sorted a second time on request."""
    roles, plain = context.subject.roles, _writer(context)
    if roles.second_labeller is None:
        return plain
    identity = json.dumps([plain.identity, "second labeller/1", roles.document()])
    return Writer(identity, lambda found: _sorted_again(roles, found, plain.write(found)))


def _sorted_again(
    roles: Roles, found: Sequence[Living], said: list[list[Explanation]]
) -> list[list[Explanation]]:
    return [
        [_second(roles, one.name(i), e) for i, e in zip(one.latents, mine, strict=True)]
        for one, mine in zip(found, said, strict=True)
    ]


def _second(roles: Roles, name: str, said: Explanation) -> Explanation:
    assert roles.second_labeller is not None
    if said.label is None:
        return said
    try:
        concept = ask_concept(roles.second_labeller, roles, said.label, name)
    except ChatError as error:
        return Explanation("error", reason=str(error))
    return replace(said, detail={**said.detail, SECOND: concept})


def _writer(context: Context[Subject]) -> Writer:
    roles = context.subject.roles
    if roles.published is not None:
        released = context.protocol == "released"
        identity = json.dumps(["published/1", roles.published.sha256, released])
        return Writer(identity, lambda found: _published(context, found))
    if roles.explainer == SOFT_WPMI:
        from .soft_wpmi import soft_wpmi_labels

        clip = context.params.get("clip") or str(context.subject.clip_folder)
        identity = json.dumps(["soft-WPMI/1", clip], sort_keys=True)
        return Writer(identity, lambda found: soft_wpmi_labels(context, found))
    role = _explainer(context.subject)
    return Writer(role.identity, lambda found: _from_exemplars(context, role, found))


def _explainer(subject: Subject) -> Explainer:
    """A chat model, or an LMM that answers in the image set's words: the one under study itself."""
    ref, provider = subject.roles.explainer, subject.provider
    if subject.roles.explainer_client is not None:
        return ChatExplainer(subject.roles, provider.vocabulary)
    lmm = subject.lmm
    if ref.startswith(LOCAL):
        from ...sae.load import load_lmm

        lmm = load_lmm(ref.removeprefix(LOCAL))
    else:
        assert ref == SELF
    question = provider.highlight_question(None)
    return SelfExplainer(lmm, question, provider.vocabulary, provider.unclear_answer)


def _published(context: Context[Subject], found: Sequence[Living]) -> list[list[Explanation]]:
    published = context.subject.roles.published
    assert published is not None
    released = context.protocol == "released"
    return [
        [published.explanation(one.sae.hookpoint, latent, released) for latent in one.latents]
        for one in found
    ]


def _from_exemplars(
    context: Context[Subject], role: Explainer, found: Sequence[Living]
) -> list[list[Explanation]]:
    from .study import cached_images

    search = context.subject.search
    images = cached_images(search)
    return [
        [
            said
            for some in _at_once(one, search.size_of)
            for said in role.explain(
                [_exemplars(one.search, i, images, search.size_of) for i in some],
                context.progress,
                [one.name(i) for i in some],
            )
        ]
        for one in found
    ]


def _at_once(one: Living, size_of: SizeOf, limit: int = BYTES) -> Iterator[list[int]]:
    """The latents in groups whose exemplars fit into memory: one group, but for large pictures."""
    group: list[int] = []
    held = 0
    for latent in one.latents:
        sizes = (size_of(int(i)) for i in one.search.top.images[latent] if i >= 0)
        taken = sum(3 * width * height for width, height in sizes)
        if group and held + taken > limit:
            yield group
            group, held = [], 0
        group.append(latent)
        held += taken
    if group:
        yield group


def _exemplars(survey: Survey, latent: int, images: CachedImages, size_of: SizeOf) -> list[Image]:
    """The latent's top images, dimmed but for its active patches."""
    dims = []
    for slot in range(survey.top.count(latent)):
        index = int(survey.top.images[latent, slot])
        tokens = survey.top.active(latent, slot)[0]
        mask = shown_mask(survey.boxes(index), tokens, size_of(index))
        dims.append(dimmed(images(index), mask))
    return dims


class IncompleteError(Exception):
    """Some explanations broke: what there is is used, and nothing is stored."""

    def __init__(self, found: list[list[Explanation]]) -> None:
        super().__init__("some explanations broke")
        self.found = found


def whole(found: list[list[Explanation]]) -> list[list[Explanation]]:
    """The same. Raises `IncompleteError` when some explanation is an error."""
    if any(said.status == "error" for per_sae in found for said in per_sae):
        raise IncompleteError(found)
    return found
