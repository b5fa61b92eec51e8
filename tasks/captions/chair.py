"""CHAIR and what must stand beside it, from captions and the objects that are truly there.

CHAIR_i is the share of mentions that name an object which isn't there, CHAIR_s the share of
captions with any such mention (Rohrbach et al., EMNLP 2018, arXiv 1809.02156). A caption that says
less hallucinates less: recall, mentions and length are counted with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...harness.task import Line
from .mentions import Vocabulary


@dataclass(frozen=True, slots=True)
class Counts:
    """One caption."""

    mentions: int
    """Objects named, each as often as it is named."""
    hallucinated: int
    """Those of them that aren't there."""
    objects: int
    """Different ones that are there."""
    recalled: int
    """Those of them that are named."""
    words: int

    @property
    def hallucinates(self) -> float:
        return float(self.hallucinated > 0)


@dataclass(frozen=True, slots=True)
class Read:
    """What a caption says of its picture."""

    counts: Counts
    named: Sequence[str]
    wrong: Sequence[str]
    """Objects named that aren't there."""


def read_caption(caption: str, there: Iterable[str], vocabulary: Vocabulary) -> Read:
    """Counts of a caption of a picture that has the objects `there`."""
    truths = set(there)
    named, right = vocabulary.mentions(caption), vocabulary.right(truths)
    wrong = [name for name in named if name not in right]
    recalled = {name for name in truths if vocabulary.right([name]) & set(named)}
    words = len(caption.split())
    return Read(Counts(len(named), len(wrong), len(truths), len(recalled), words), named, wrong)


Rate = Callable[[Sequence[Counts]], float | None]
"""A number of many captions; None where there is nothing to divide by."""


def chair_i(captions: Sequence[Counts]) -> float | None:
    return _ratio((c.hallucinated for c in captions), (c.mentions for c in captions))


def chair_s(captions: Sequence[Counts]) -> float | None:
    return _ratio((c.hallucinates for c in captions), (1 for _ in captions))


def object_recall(captions: Sequence[Counts]) -> float | None:
    return _ratio((c.recalled for c in captions), (c.objects for c in captions))


def mentions(captions: Sequence[Counts]) -> float | None:
    return _ratio((c.mentions for c in captions), (1 for _ in captions))


def words(captions: Sequence[Counts]) -> float | None:
    return _ratio((c.words for c in captions), (1 for _ in captions))


def _ratio(parts: Iterable[float], wholes: Iterable[float]) -> float | None:
    whole = sum(wholes)
    return sum(parts) / whole if whole else None


RATES: dict[str, Rate] = {
    "chair_i": chair_i,
    "chair_s": chair_s,
    "object_recall": object_recall,
    "mentions": mentions,
    "words": words,
}
"""By metric."""


def read_counts(line: Line) -> Counts:
    """Those of a stored line that is ok."""
    scores, detail = line["scores"], line["detail"]
    return Counts(
        mentions=int(scores["mentions"]),
        hallucinated=len(detail["wrong"]),
        objects=len(detail["objects"]),
        recalled=int(detail["recalled"]),
        words=int(scores["words"]),
    )
