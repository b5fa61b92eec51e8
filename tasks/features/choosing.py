"""Which images of a set a run looks at, and how it ranks them: from the task's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .duplicates import distinct, hashes
from .imageset import fingerprint
from .surveying import LOOKING, Looking

if TYPE_CHECKING:
    from ...harness.task import Context
    from ..subject import Subject
    from .imageset import ImageSet


def looking(context: Context[Subject]) -> Looking:
    """How images are ranked: as the parameters say, in the paper's protocols by base tokens."""
    pooling = context.params.get("pooling", LOOKING.pooling)
    return Looking(pooling, base_only=context.protocol != "strict")


def kept_images(context: Context[Subject], images: ImageSet) -> list[int]:
    """All, or on request those without near-duplicates among themselves.

    Held-out images must differ from those that explanations are written from, too.
    """
    bits = context.params.get("near_duplicates")
    if bits is None:
        return list(range(len(images)))
    key = {"bits": bits, "images": fingerprint(images)}
    return context.artefacts.get("distinct", key, lambda: _distinct(context, images, int(bits)))


def _distinct(context: Context[Subject], images: ImageSet, bits: int) -> list[int]:
    subject = context.subject
    seen = None if images is subject.search else hashes(subject.search)
    kept = distinct(hashes(images), bits, seen)
    context.progress.say(f"{len(images) - len(kept)} near-duplicates of {len(images)} left out")
    return kept
