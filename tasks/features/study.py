"""What every feature task starts from: an SAE's live latents, their images, masks and explanations.

Made once per run and kept by content, since each part costs a pass through the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...errors import UnknownNameError
from .choosing import kept_images, looking
from .exemplars import (
    RATE_FLOOR,
    Census,
    census,
    load_surveys,
    sample_latents,
    save_surveys,
    survey_images,
)
from .explain import Explanation, load_explanations, save_explanations
from .explaining import IncompleteError, Writer, whole, writer
from .imageset import fingerprint
from .kept import Kept
from .masks import Mask, shown_mask
from .neurons import NEURONS_PER_HOOKPOINT, neuron_saes
from .resuming import state_of
from .surveying import RESERVOIR, TOP, Survey

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.task import Context
    from ...sae.topk import TrainedSae
    from ..subject import Subject
    from .imageset import ImageSet, SizeOf
    from .selection import Ints

Split = Literal["search", "top", "decile"]
LATENTS_PER_SAE = 200
PARAMS = ("rate_floor", "latents_per_sae", "pooling", "near_duplicates", "clip")
"""What every feature task may be given: least rate of a live latent, how many to explain, how an
image is ranked, in more than how many of 64 bits hashes of pictures must differ, and the CLIP."""


@dataclass(frozen=True)
class Living:
    """One SAE's live latents, before anything is said about them."""

    sae: TrainedSae
    search: Survey
    census: Census
    latents: Sequence[int]
    """All live ones, or a seeded sample; those of published explanations, where there are any."""

    def name(self, latent: int) -> str:
        """A latent, unambiguous within a run."""
        return latent_name(self.sae, latent)


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
        return latent_name(self.sae, latent)

    def survey(self, split: Split) -> Survey:
        """Of the images that a group is taken from."""
        return self.search if split == "search" else self.score

    def active(self, latent: int, split: Split) -> Iterator[tuple[int, Ints]]:
        """Images of a group, best first: (index within the image set, active tokens)."""
        survey = self.survey(split)
        gallery = survey.decile if split == "decile" else survey.top
        for slot in range(gallery.count(latent)):
            yield int(gallery.images[latent, slot]), gallery.active(latent, slot)[0]

    def masked(self, latent: int, split: Split, size_of: SizeOf) -> Iterator[tuple[int, Mask]]:
        """The same with the pixels of the active tokens (all where tokens have no place).

        Yields (index within the image set, mask).
        """
        for image, tokens in self.active(latent, split):
            yield image, shown_mask(self.survey(split).boxes(image), tokens, size_of(image))


def latent_name(sae: TrainedSae, latent: int) -> str:
    """A latent, unambiguous within a run."""
    return f"{sae.name}/{sae.hookpoint.name}/{sae.arm}/{latent}"


def living(context: Context[Subject]) -> list[Living]:
    """The live latents of every SAE of the run, untrained controls included, in its order."""
    key = _key(context)
    return context.artefacts.get("living", key, lambda: _living(context))


def studies(context: Context[Subject]) -> list[Study]:
    """One study per SAE of the run, untrained controls included, in the subject's order."""
    key = _key(context)
    return context.artefacts.get("studies", key, lambda: _studies(context))


def neuron_studies(context: Context[Subject]) -> list[Study]:
    """The neuron basis at the hookpoint of every SAE under study: a sample of its live neurons."""
    key = _key(context)
    return context.artefacts.get("neurons", key, lambda: _neuron_studies(context))


def _key(context: Context[Subject]) -> dict[str, Any]:
    return {
        "survey": _survey_key(context, context.subject.search),
        "params": {name: context.params[name] for name in PARAMS if name in context.params},
        "protocol": context.protocol if context.subject.roles.published else None,
    }


def refuse_unknown(context: Context[Subject], *known: str) -> None:
    """A mistyped parameter must not pass for a default."""
    allowed = (*PARAMS, *known)
    for name in context.params:
        if name not in allowed:
            raise UnknownNameError("parameter", name, allowed)


def _living(context: Context[Subject]) -> list[Living]:
    limit = int(context.params.get("latents_per_sae", LATENTS_PER_SAE))
    saes = context.subject.saes
    found = zip(saes, surveys(context, context.subject.search), strict=True)
    return [_lives(context, sae, search, limit) for sae, search in found]


def _lives(context: Context[Subject], sae: TrainedSae, search: Survey, limit: int) -> Living:
    floor = float(context.params.get("rate_floor", RATE_FLOOR))
    count = census(search, sae.sae.k, floor)
    context.progress.say(_counted(sae, count))
    published = context.subject.roles.published
    if published is None:
        return Living(sae, search, count, sample_latents(count.live, limit, context.seed))
    # Controls have other latents: nothing was published about those.
    wanted = published.latents(sae.hookpoint) if sae.arm == "main" else []
    return Living(sae, search, count, [i for i in wanted if i < count.n_latents])


def _studies(context: Context[Subject]) -> list[Study]:
    return _explained_studies(context, living(context), surveys(context, context.subject.score))


def _neuron_studies(context: Context[Subject]) -> list[Study]:
    n = len(context.subject.saes)
    search = _all_surveys(context, context.subject.search)[n:]
    score = _all_surveys(context, context.subject.score)[n:]
    pairs = zip(neuron_saes(context.subject.saes), search, strict=True)
    found = [_lives(context, sae, survey, NEURONS_PER_HOOKPOINT) for sae, survey in pairs]
    return _explained_studies(context, found, score)


def _explained_studies(
    context: Context[Subject], living_: Sequence[Living], score: Sequence[Survey]
) -> list[Study]:
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
    return _all_surveys(context, images)[: len(context.subject.saes)]


def _all_surveys(context: Context[Subject], images: ImageSet) -> list[Survey]:
    """The neuron bases come after the SAEs, from the same pass."""
    subject = context.subject
    saes = [*subject.saes, *neuron_saes(subject.saes)]
    key = _survey_key(context, images)
    state = state_of(context.artefacts, key)

    def build() -> list[Survey]:
        return survey_images(
            subject.lmm,
            saes,
            images,
            seed=context.seed,
            progress=context.progress,
            looking=looking(context),
            kept=kept_images(context, images),
            state=state,
        )

    found = context.artefacts.get("survey", key, build, save_surveys, load_surveys)
    if state:
        state.forget()
    return found


def _survey_key(context: Context[Subject], images: ImageSet) -> dict[str, Any]:
    bits = context.params.get("near_duplicates")
    return {
        "version": 3,
        "kept": [TOP, RESERVOIR],
        "saes": _saes_key(context.subject),
        "images": fingerprint(images),
        "seed": context.seed,
        **looking(context).key(),
        **(
            {} if bits is None else {"near_duplicates": [bits, fingerprint(context.subject.search)]}
        ),
    }


def _saes_key(subject: Subject) -> list[list[str]]:
    return [[subject.lmm.identity], *([s.identity, s.hookpoint.name] for s in subject.saes)]


def _explained(
    context: Context[Subject], living_: Sequence[Living]
) -> list[dict[int, Explanation]]:
    role = writer(context)
    try:
        found = context.artefacts.get(
            "explanations",
            _explanations_key(context, living_, role),
            lambda: whole(role.write(living_)),
            save_explanations,
            load_explanations,
        )
    except IncompleteError as broken:
        found = broken.found
    pairs = zip(living_, found, strict=True)
    return [dict(zip(one.latents, said, strict=True)) for one, said in pairs]


def _explanations_key(
    context: Context[Subject], living_: Sequence[Living], role: Writer
) -> dict[str, Any]:
    return {
        "version": 1,
        "survey": _survey_key(context, context.subject.search),
        "latents": [[one.sae.arm, *one.latents] for one in living_],
        "explainer": role.identity,
    }


def explanations_at_hand(context: Context[Subject]) -> dict[str, Explanation]:
    """By `latent_name`, those that another task or an earlier run has paid for: nobody is asked."""
    survey = _survey_key(context, context.subject.search)
    if not context.artefacts.has("survey", survey):
        return {}
    found = living(context)
    if not context.artefacts.has(
        "explanations", _explanations_key(context, found, writer(context))
    ):
        return {}
    said = zip(found, _explained(context, found), strict=True)
    return {one.name(latent): e for one, mine in said for latent, e in mine.items()}


class CachedImages:
    """Decoded images of a set, the last ones kept: features come back to the same few."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._kept: Kept[Image] = Kept(lambda image: image.width * image.height * 3)

    def __call__(self, index: int) -> Image:
        return self._kept.get(index, lambda: self._images.image(index))


def cached_images(images: ImageSet) -> CachedImages:
    """A set's images with a cache in front."""
    return CachedImages(images)
