"""CLIP scores of explanations on held-out images, for the tasks `clip` and `iou`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...harness.task import Line, Metric, MetricRow, Outcome, Sample
from .clip import TransformersClip, open_clip_scorer
from .explain import without_label
from .imageset import fingerprint
from .labels import hard_shuffled
from .presence import POOL, random_images
from .protocols import RULES
from .study import studies
from .tables import mean_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...harness.task import Context
    from ..subject import Subject
    from .clip import ClipScorer, Vectors
    from .explain import Explanation
    from .imageset import ImageSet
    from .study import Study

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
        "share of the images for which the explanation is the best of all labels",
        higher_is_better=True,
        range=(0, 1),
    ),
)
_ARMS = ("main", "hard_shuffled", "untrained", "random_images")
AT_ONCE = 64
"""Images that are held at once while they are embedded."""
RANDOM_IMAGES = 30 * 5
"""The paper's random baseline: thirty times five random images."""


@dataclass(frozen=True, slots=True)
class ClipItem:
    """One latent's top held-out images and the label that they are held against."""

    images: tuple[int, ...]
    label: str | None
    said: Explanation


class ClipSpace:
    """Labels and images of one set as vectors; each is embedded once."""

    def __init__(self, scorer: ClipScorer, caption: Callable[[str], str], images: ImageSet) -> None:
        self._scorer, self._caption, self._images = scorer, caption, images
        self._label_vectors: dict[str, Vectors] = {}
        self._image_vectors: dict[int, Vectors] = {}

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
            yield _sample(study, latent, study.arm, top, None)
            if main:
                yield _sample(study, latent, "hard_shuffled", top, wrong)
            if main and rules.groups == ("search",):
                pool = random_pool(context)
                rng = np.random.default_rng([context.seed, latent, 3])
                drawn = rng.choice(pool, RANDOM_IMAGES).tolist()
                yield _sample(study, latent, "random_images", drawn, None)


def random_pool(context: Context[Subject]) -> list[int]:
    """Random images of those that explanations are written from."""
    return random_images(len(context.subject.search), POOL, context.seed)


def _sample(
    study: Study, latent: int, arm: str, images: Sequence[int], wrong: Mapping[str, str] | None
) -> Sample:
    said = study.explanations[latent]
    label = said.label if wrong is None else wrong.get(said.label or "")
    return Sample(
        id=f"{study.name(latent)}/{arm}/clip",
        cluster=study.name(latent),
        arm=arm,
        sae=study.sae.name,
        hookpoint=study.sae.hookpoint.name,
        latent=latent,
        concept=said.concept,
        payload=ClipItem(tuple(images), label, said),
    )


def clip_outcomes(samples: Sequence[Sample], context: Context[Subject]) -> list[Outcome]:
    """CLIP score, gap and R@1 of each sample."""
    space = clip_space(context, RULES[context.protocol].groups != ("search",))
    items: list[ClipItem] = [sample.payload for sample in samples]
    if needed := sorted({i for item in items if item.label for i in item.images}):
        space.images(needed)
    return [_outcome(item, space, [*context.subject.provider.vocabulary]) for item in items]


def _outcome(item: ClipItem, space: ClipSpace, vocabulary: Sequence[str]) -> Outcome:
    if item.label is None:
        return without_label(item.said, "no other label")
    if not item.images:
        return Outcome.unscorable("silent on held-out images", label=item.label)
    candidates = list(dict.fromkeys([item.label, *vocabulary]))
    cosines = 100 * space.images(item.images) @ space.labels(candidates).T
    matched, others = cosines[:, 0], cosines[:, 1:]
    scores = {
        "clip": float(matched.clip(0).mean()),
        "clip_gap": float((matched - others.mean(1)).mean()) if others.size else 0.0,
        "clip_r1": float((matched[:, None] > others).all(1).mean()),
    }
    return Outcome.ok(scores, label=item.label, candidates=len(candidates))


def clip_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """Means of the three scores in every cell; the null is the hard-shuffled explanation."""
    mine = [line for line in lines if line["id"].endswith("/clip")]
    for metric in CLIP_METRICS:
        share = metric.range == (0, 1)
        yield from mean_rows(mine, metric.name, _ARMS, null="hard_shuffled", share=share)
