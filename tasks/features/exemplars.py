"""The survey of an image set: per latent its top images, some by deciles, how often it fires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .histograms import Strengths
from .selection import Gallery
from .stream import stream
from .surveying import (
    LOOKING,
    RESERVOIR,
    STRENGTHS,
    TOP,
    Layouts,
    Looking,
    Survey,
    Surveyor,
    base_view,
)

if TYPE_CHECKING:
    from ...harness.progress import Progress
    from ...sae.lmm import LMM
    from ...sae.topk import TrainedSae
    from .imageset import ImageSet
    from .resuming import State

__all__ = ["RESERVOIR", "TOP", "Looking", "Survey", "census", "survey_images"]

MIN_IMAGES = 20
"""A latent is live when it fires on this many images of the search set."""
RATE_FLOOR = 0.3
"""... and its share of image tokens is at least this times k / n_latents."""
DENSE = 0.10
"""Above this share of image tokens a latent is flagged, not dropped."""


@dataclass(frozen=True, slots=True)
class Census:
    """Which latents of an SAE are worth asking about."""

    live: list[int]
    dead: int
    """Never active on an image token of the search set."""
    dense: list[int]
    """Live, and active on more than a tenth of the image tokens."""
    n_latents: int


def census(survey: Survey, k: int, rate_floor: float = RATE_FLOOR) -> Census:
    """Live, dead and dense latents by the search set.

    Args:
        k: active latents a token.
        rate_floor: least image-token rate of a live latent, in units of the mean, k / n_latents.
    """
    n = len(survey.fired_images)
    live = (survey.fired_images >= MIN_IMAGES) & (survey.rate >= rate_floor * k / n)
    dense = live & (survey.rate > DENSE)
    dead = int((survey.fired_tokens == 0).sum())
    return Census(np.flatnonzero(live).tolist(), dead, np.flatnonzero(dense).tolist(), n)


def sample_latents(live: Sequence[int], limit: int, seed: int) -> list[int]:
    """All live latents, or a seeded random sample of them, ascending."""
    if len(live) <= limit:
        return list(live)
    rng = np.random.default_rng([seed, len(live)])
    return sorted(int(i) for i in rng.choice(np.asarray(live), limit, replace=False))


def survey_images(
    lmm: LMM,
    saes: Sequence[TrainedSae],
    images: ImageSet,
    *,
    seed: int,
    progress: Progress,
    looking: Looking = LOOKING,
    kept: Sequence[int] | None = None,
    state: State | None = None,
) -> list[Survey]:
    """One pass over the set, one forward a group for all SAEs; memory is latents x images kept.

    The same seed gives the same result whatever the grouping of images, and whether or not an
    earlier process was stopped on the way.

    Args:
        looking: how images are ranked.
        kept: images to look at, ascending; by default all.
        state: where an unfinished survey is kept, if anywhere.
    """
    surveyors = [Surveyor(sae.sae.n_latents, seed, looking.pooling) for sae in saes]
    layouts = Layouts(len(images))
    through = list(range(len(images)) if kept is None else kept)
    done = state.load(surveyors, layouts) if state else 0
    since = 0
    for chunk in stream(lmm, saes, images, progress, through[done:]):
        seen = base_view(chunk) if looking.base_only else chunk
        layouts.add(seen)
        for surveyor, entries in zip(surveyors, seen.entries, strict=True):
            surveyor.add(seen, entries)
        done, since = done + len(chunk.images), since + len(chunk.images)
        if state and since >= state.every:
            state.save(surveyors, layouts, done)
            since = 0
    return [surveyor.finish(layouts) for surveyor in surveyors]


def save_surveys(surveys: Sequence[Survey], folder: Path) -> None:
    """One npz a survey."""
    for i, survey in enumerate(surveys):
        np.savez(folder / f"{i:03d}.npz", **_arrays(survey))


def load_surveys(folder: Path) -> list[Survey]:
    """What `save_surveys` wrote."""
    return [_survey(_read(path)) for path in sorted(folder.glob("*.npz"))]


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except BadZipFile as error:
        raise ValueError(f"{path.name} is damaged") from error


_PLAIN = ("n_images", "n_tokens", "fired_images", "fired_tokens", "mass", "maximum", "layout_of")
_GALLERY = ("images", "pooled", "starts", "tokens", "values")


def _arrays(survey: Survey) -> dict[str, Any]:
    arrays: dict[str, Any] = {name: getattr(survey, name) for name in _PLAIN}
    for group in ("top", "decile"):
        gallery = getattr(survey, group)
        arrays |= {f"{group}.{name}": getattr(gallery, name) for name in _GALLERY}
    arrays |= {f"strengths.{name}": getattr(survey.strengths, name) for name in STRENGTHS}
    return arrays | {f"layout.{i}": boxes for i, boxes in enumerate(survey.layouts)}


def _survey(arrays: dict[str, npt.NDArray[Any]]) -> Survey:
    plain: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
    plain |= {name: int(arrays[name]) for name in ("n_images", "n_tokens")}
    for group in ("top", "decile"):
        plain[group] = Gallery(**{name: arrays[f"{group}.{name}"] for name in _GALLERY})
    plain["strengths"] = Strengths(**{name: arrays[f"strengths.{name}"] for name in STRENGTHS})
    n_layouts = sum(name.startswith("layout.") for name in arrays)
    return Survey(**plain, layouts=[arrays[f"layout.{i}"] for i in range(n_layouts)])
