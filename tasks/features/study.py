"""What every feature task starts from: an SAE's live latents, their images, masks and explanations.

Made once per run and kept by content, since each part costs a pass through the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UnknownNameError, UsageError
from .exemplars import (
    RATE_FLOOR,
    RESERVOIR,
    TOP,
    Census,
    Survey,
    census,
    load_surveys,
    sample_latents,
    save_surveys,
    survey_images,
)
from .explain import Explanation, SelfExplainer, load_explanations, save_explanations
from .imageset import fingerprint
from .masks import Mask, dimmed, shown_mask

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.task import Context
    from ...sae.topk import TrainedSae
    from ..subject import Subject
    from .explain import Explainer
    from .imageset import ImageSet

Split = Literal["search", "top", "decile"]
LATENTS_PER_SAE = 200
PARAMS = ("rate_floor", "latents_per_sae")
"""What every feature task may be given: least rate of a live latent, how many to explain."""
IMAGES_KEPT = 1024
"""Decoded images held in memory."""


@dataclass(frozen=True)
class Living:
    """One SAE's live latents, before anything is said about them."""

    sae: TrainedSae
    search: Survey
    census: Census
    latents: Sequence[int]
    """All live ones, or a seeded sample."""


@dataclass(frozen=True)
class Study:
    """One SAE's features."""

    sae: TrainedSae
    search: Survey
    """Of the images that explanations are written from."""
    score: Survey
    """Of held-out images."""
    census: Census
    explanations: Mapping[int, Explanation]
    """Of every sampled live latent."""

    @property
    def arm(self) -> str:
        return self.sae.arm

    @property
    def labels(self) -> dict[str, str | None]:
        """Every label that explains some latent, with its concept."""
        return {e.label: e.concept for e in self.explanations.values() if e.label}

    def name(self, latent: int) -> str:
        """A latent, unambiguous within a run."""
        return f"{self.sae.name}/{self.sae.hookpoint.name}/{self.sae.arm}/{latent}"

    def masked(
        self, latent: int, split: Split, size: tuple[int, int]
    ) -> Iterator[tuple[int, Mask]]:
        """Images of a group, best first, each with the pixels of the latent's active tokens (all
        pixels where tokens have no place).

        Yields (index within the image set, mask).
        """
        survey = self.search if split == "search" else self.score
        gallery = survey.decile if split == "decile" else survey.top
        for slot in range(gallery.count(latent)):
            image = int(gallery.images[latent, slot])
            tokens, _ = gallery.active(latent, slot)
            yield image, shown_mask(survey.boxes(image), tokens, size)


def living(context: Context[Subject]) -> list[Living]:
    """The live latents of every SAE of the run, untrained controls included, in its order."""
    key = _key(context)
    return context.artefacts.get("living", key, lambda: _living(context))


def studies(context: Context[Subject]) -> list[Study]:
    """One study per SAE of the run, untrained controls included, in the subject's order."""
    key = _key(context)
    return context.artefacts.get("studies", key, lambda: _studies(context))


def _key(context: Context[Subject]) -> dict[str, Any]:
    return {
        "survey": _survey_key(context, context.subject.search),
        "params": {name: context.params[name] for name in PARAMS if name in context.params},
    }


def refuse_unknown(context: Context[Subject], *known: str) -> None:
    """A mistyped parameter must not pass for a default."""
    allowed = (*PARAMS, *known)
    for name in context.params:
        if name not in allowed:
            raise UnknownNameError("parameter", name, allowed)


def _living(context: Context[Subject]) -> list[Living]:
    floor = float(context.params.get("rate_floor", RATE_FLOOR))
    limit = int(context.params.get("latents_per_sae", LATENTS_PER_SAE))
    found = []
    saes = context.subject.saes
    for sae, search in zip(saes, surveys(context, context.subject.search), strict=True):
        count = census(search, sae.sae.k, floor)
        context.progress.say(_counted(sae, count))
        latents = sample_latents(count.live, limit, context.seed)
        found.append(Living(sae, search, count, latents))
    return found


def _studies(context: Context[Subject]) -> list[Study]:
    living_ = living(context)
    score = surveys(context, context.subject.score)
    explained = _explained(context, living_)
    return [
        Study(one.sae, one.search, held_out, one.census, said)
        for one, held_out, said in zip(living_, score, explained, strict=True)
    ]


def _counted(sae: TrainedSae, count: Census) -> str:
    return (
        f"{sae.name} at {sae.hookpoint} ({sae.arm}): of {count.n_latents} latents "
        f"{len(count.live)} live, {count.dead} dead, {len(count.dense)} dense"
    )


def surveys(context: Context[Subject], images: ImageSet) -> list[Survey]:
    """The survey of an image set by every SAE, from one pass through the model."""
    subject = context.subject
    return context.artefacts.get(
        "survey",
        _survey_key(context, images),
        lambda: survey_images(
            subject.lmm, subject.saes, images, seed=context.seed, progress=context.progress
        ),
        save_surveys,
        load_surveys,
    )


def _survey_key(context: Context[Subject], images: ImageSet) -> dict[str, Any]:
    return {
        "version": 1,
        "kept": [TOP, RESERVOIR],
        "saes": _saes_key(context.subject),
        "images": fingerprint(images),
        "seed": context.seed,
    }


def _saes_key(subject: Subject) -> list[list[str]]:
    return [[subject.lmm.identity], *([s.identity, s.hookpoint.name] for s in subject.saes)]


def explainer(subject: Subject) -> Explainer:
    """The explainer of the run: the model under study itself."""
    if subject.make_explainer is not None:
        raise UsageError("chat explainers are not available yet; leave the explainer out")
    provider = subject.provider
    question = provider.highlight_question(None)
    return SelfExplainer(subject.lmm, question, provider.vocabulary, provider.unclear_answer)


def _explained(
    context: Context[Subject], living_: Sequence[Living]
) -> list[dict[int, Explanation]]:
    subject = context.subject
    role = explainer(subject)
    images = cached_images(subject.search)
    key = {
        "version": 1,
        "survey": _survey_key(context, subject.search),
        "latents": [list(one.latents) for one in living_],
        "explainer": role.identity,
    }

    def build() -> list[list[Explanation]]:
        return [
            role.explain(
                [_exemplars(one.search, i, images, subject.search.size) for i in one.latents],
                context.progress,
            )
            for one in living_
        ]

    found = context.artefacts.get("explanations", key, build, save_explanations, load_explanations)
    pairs = zip(living_, found, strict=True)
    return [dict(zip(one.latents, said, strict=True)) for one, said in pairs]


def _exemplars(
    survey: Survey, latent: int, images: CachedImages, size: tuple[int, int]
) -> list[Image]:
    """The latent's top images, dimmed but for its active patches."""
    dims = []
    for slot in range(survey.top.count(latent)):
        index = int(survey.top.images[latent, slot])
        mask = shown_mask(survey.boxes(index), survey.top.active(latent, slot)[0], size)
        dims.append(dimmed(images(index), mask))
    return dims


class CachedImages:
    """Decoded images of a set, the last ones kept: features come back to the same few."""

    def __init__(self, images: ImageSet) -> None:
        self._get = lru_cache(maxsize=IMAGES_KEPT)(images.image)

    def __call__(self, index: int) -> Image:
        return self._get(index)


def cached_images(images: ImageSet) -> CachedImages:
    """A set's images with a cache in front."""
    return CachedImages(images)
