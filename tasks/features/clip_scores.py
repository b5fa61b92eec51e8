"""CLIP scores of explanations on held-out images, for the tasks `clip` and `iou`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ...harness.task import Line, Metric, MetricRow, Outcome
from .clip import TransformersClip, open_clip_scorer
from .explain import without_label
from .imageset import fingerprint
from .labels import hard_shuffled
from .latent_samples import label_for, latent_sample
from .masks import around
from .presence import POOL, random_images
from .protocols import RULES
from .study import studies
from .tables import mean_rows, metric_rows
from .two_levels import MIXED_ARMS, common_mix_rows, of_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...harness.task import Context, Sample
    from ..subject import Subject
    from .clip import ClipScorer, Vectors
    from .explain import Explanation
    from .imageset import ImageSet
    from .study import Split, Study

CLIP_METRICS = (
    Metric(
        "clip",
        "CLIP score",
        "100 x cosine of explanation and held-out top images, at least 0; mean over the images",
        higher_is_better=True,
        range=(0, 100),
        headline=True,
    ),
    Metric(
        "clip_gap",
        "CLIP gap",
        "100 x cosine with the explanation minus that with the other labels, on the same images",
        higher_is_better=True,
        range=(-200, 200),
    ),
    Metric(
        "clip_r1",
        "CLIP R@1",
        "share of the images for which the explanation is the best of 100 labels: itself, others "
        "of the vocabulary and of the run's explanations, as far as there are so many",
        higher_is_better=True,
        range=(0, 1),
    ),
    Metric(
        "clip_crop",
        "CLIP score, region",
        "100 x cosine of explanation and the first 3 of these images, cut to the active region",
        higher_is_better=True,
        range=(0, 100),
    ),
    Metric(
        "clip_mix",
        "CLIP score, common mix",
        "mean of clip at one mix of concepts for all layers, SAEs and arms of the run",
        higher_is_better=True,
        range=(0, 100),
    ),
)
CANDIDATES = 100
"""Labels that an explanation is ranked among."""
_ARMS = ("main", "hard_shuffled", "untrained", "random_images")
AT_ONCE = 64
"""Images that are held at once while they are embedded."""
Crop = tuple[int, tuple[int, int, int, int]]
"""An image's index and a box in its pixels: left, top, right, bottom."""
CROPPED = 3
"""Images of a latent that are cut to its region: each is another picture for CLIP to look at."""
RANDOM_IMAGES = 30 * 5
"""The paper's random baseline: thirty times five random images."""


@dataclass(frozen=True, slots=True)
class ClipItem:
    """One latent's top held-out images and the label that they are held against."""

    images: tuple[int, ...]
    crops: tuple[Crop, ...]
    """Where the latent is active on each of them; none where its tokens have no place."""
    label: str | None
    said: Explanation


class ClipSpace:
    """Labels, images of one set and parts of them as vectors; each is embedded once."""

    def __init__(self, scorer: ClipScorer, caption: Callable[[str], str], images: ImageSet) -> None:
        self._scorer, self._caption, self._images = scorer, caption, images
        self._label_vectors: dict[str, Vectors] = {}
        self._image_vectors: dict[int, Vectors] = {}
        self._crop_vectors: dict[Crop, Vectors] = {}

    def labels(self, labels: Sequence[str]) -> Vectors:
        """`(n, d)` unit vectors of the labels' captions."""
        new = [label for label in dict.fromkeys(labels) if label not in self._label_vectors]
        vectors = self._scorer.texts([self._caption(label) for label in new])
        self._label_vectors.update(zip(new, vectors, strict=True))
        return np.stack([self._label_vectors[label] for label in labels])

    def images(self, indices: Sequence[int]) -> Vectors:
        """`(n, d)` unit vectors of images of the set."""
        new = [index for index in dict.fromkeys(indices) if index not in self._image_vectors]
        for start in range(0, len(new), AT_ONCE):
            group = new[start : start + AT_ONCE]
            vectors = self._scorer.images([self._images.image(index) for index in group])
            self._image_vectors.update(zip(group, vectors, strict=True))
        return np.stack([self._image_vectors[index] for index in indices])

    def crops(self, crops: Sequence[Crop]) -> Vectors:
        """`(n, d)` unit vectors of parts of images."""
        new = sorted({crop for crop in crops if crop not in self._crop_vectors})
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            pictures = {index: self._images.image(index) for index in {i for i, _ in some}}
            vectors = self._scorer.images([pictures[index].crop(box) for index, box in some])
            self._crop_vectors.update(zip(some, vectors, strict=True))
        return np.stack([self._crop_vectors[crop] for crop in crops])

    def similarity(self, labels: Sequence[str]) -> Vectors:
        """`(n, n)` cosines of labels."""
        vectors = self.labels(labels)
        return np.asarray(vectors @ vectors.T)


def clip_space(context: Context[Subject], held_out: bool = True) -> ClipSpace:
    """The run's CLIP on its held-out images, or on those that explanations are written from."""
    subject = context.subject
    images = subject.score if held_out else subject.search
    ref = context.params.get("clip", {}).get("ref")
    key = {"clip": ref or str(subject.clip_folder), "images": fingerprint(images)}

    def build() -> ClipSpace:
        scorer = open_clip_scorer(ref) if ref else TransformersClip(subject.clip_folder)
        return ClipSpace(scorer, subject.provider.caption_of, images)

    return context.artefacts.get("clip-space", key, build)


def wrong_labels(study: Study, context: Context[Subject]) -> dict[str, str]:
    """For each label of a study the nearest wrong one: the hard-shuffled control."""
    vocabulary = context.subject.provider.vocabulary
    return hard_shuffled(study.labels, clip_space(context).similarity, vocabulary)


def clip_samples(context: Context[Subject]) -> Iterator[Sample]:
    """One sample per latent and arm. Only the paper's protocols have its random images."""
    rules = RULES[context.protocol]
    for study in studies(context):
        main = study.arm == "main"
        wrong = wrong_labels(study, context) if main else {}
        for latent in study.explanations:
            top = [image for image, _ in study.active(latent, rules.groups[0])]
            crops = tuple(islice(_crops(study, latent, rules.groups[0]), CROPPED))
            yield _sample(study, latent, study.arm, top, None, crops)
            if main:
                yield _sample(study, latent, "hard_shuffled", top, wrong, crops)
            if main and rules.groups == ("search",):
                pool = random_pool(context)
                rng = np.random.default_rng([context.seed, latent, 3])
                drawn = rng.choice(pool, RANDOM_IMAGES).tolist()
                yield _sample(study, latent, "random_images", drawn, None)


def _crops(study: Study, latent: int, split: Split) -> Iterator[Crop]:
    """The box around the active tokens of each image; none where they look at no part of it."""
    for image, tokens in study.active(latent, split):
        if (box := around(study.survey(split).boxes(image)[tokens])) is not None:
            yield image, box


def random_pool(context: Context[Subject]) -> list[int]:
    """Random images of those that explanations are written from."""
    return random_images(len(context.subject.search), POOL, context.seed)


def _sample(
    study: Study,
    latent: int,
    arm: str,
    images: Sequence[int],
    wrong: Mapping[str, str] | None,
    crops: tuple[Crop, ...] = (),
) -> Sample:
    said = study.explanations[latent]
    item = ClipItem(tuple(images), crops, label_for(said, wrong), said)
    suffix = f"/{arm}/clip"
    return latent_sample(study.sae, latent, arm, item, suffix=suffix, concept=said.concept)


def clip_outcomes(samples: Sequence[Sample], context: Context[Subject]) -> list[Outcome]:
    """CLIP score, gap and R@1 of each sample, and the score of its region."""
    space = clip_space(context, RULES[context.protocol].groups != ("search",))
    items: list[ClipItem] = [sample.payload for sample in samples]
    if needed := sorted({i for item in items if item.label for i in item.images}):
        space.images(needed)
    if regions := [crop for item in items if item.label for crop in item.crops]:
        space.crops(regions)
    labels = all_labels(context)
    return [_outcome(item, space, candidates(item.label, labels, context.seed)) for item in items]


def all_labels(context: Context[Subject]) -> list[str]:
    """The image set's vocabulary, then what else explains some latent of the run."""
    said = [label for study in studies(context) if study.arm == "main" for label in study.labels]
    return list(dict.fromkeys([*context.subject.provider.vocabulary, *sorted(said)]))


def candidates(label: str | None, labels: Sequence[str], seed: int) -> list[str]:
    """The label itself, and so many others that they are `CANDIDATES`: always the same ones."""
    others = [other for other in labels if other != label]
    if len(others) >= CANDIDATES:
        rng = np.random.default_rng([seed, *(label or "").encode()])
        chosen = rng.choice(len(others), CANDIDATES - 1, replace=False)
        others = [others[i] for i in sorted(chosen.tolist())]
    return [label, *others] if label else []


def _outcome(item: ClipItem, space: ClipSpace, ranked: Sequence[str]) -> Outcome:
    if item.label is None:
        return without_label(item.said, "no other label")
    if not item.images:
        return Outcome.unscorable("silent on held-out images", label=item.label)
    cosines = 100 * space.images(item.images) @ space.labels(ranked).T
    matched, others = cosines[:, 0], cosines[:, 1:]
    scores = {
        "clip": float(matched.clip(0).mean()),
        "clip_gap": float((matched - others.mean(1)).mean()) if others.size else 0.0,
        "clip_r1": float((matched[:, None] > others).all(1).mean()),
    }
    if item.crops:
        regions = 100 * space.crops(item.crops) @ space.labels([item.label])[0]
        scores["clip_crop"] = float(regions.clip(0).mean())
    # The paper's random images are no second level: they are drawn for the latent.
    own = len(item.images) < RANDOM_IMAGES
    each = [round(float(value), 4) for value in matched.clip(0)] if own else []
    return Outcome.ok(scores, label=item.label, candidates=len(ranked), each=each)


def clip_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """Means of the scores in every cell; the null is the hard-shuffled explanation."""
    mine = [line for line in lines if line["id"].endswith("/clip")]
    score, gap, best, crop, _ = CLIP_METRICS
    yield from mean_rows(
        mine, score.name, _ARMS, null="hard_shuffled", share=False, of_images=of_images
    )
    yield from common_mix_rows(mine, score.name, MIXED_ARMS)
    yield from metric_rows(mine, [gap, crop], _ARMS, null="hard_shuffled")
    for row in metric_rows(mine, [best], _ARMS, null="hard_shuffled"):
        yield replace(row, note=row.note or _among(mine))


def _among(lines: Sequence[Line]) -> str:
    """Out of how many labels the best one was to be found."""
    sizes = [line["detail"]["candidates"] for line in lines if line["status"] == "ok"]
    least, most = min(sizes, default=1), max(sizes, default=1)
    return f"among {most if least == most else f'{least} to {most}'} labels"
