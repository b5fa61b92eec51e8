"""Labels against labels: concepts, the nearest wrong explanation, one attribute changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

ATTRIBUTES = ("colour", "texture", "material")
"""Concepts of which an explanation may name one while being about something else."""

Similarity = Callable[[Sequence[str]], "npt.NDArray[np.float32]"]
"""Texts to their `(n, n)` cosine similarities."""


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa of two labellers over the same items; None when nothing could disagree."""
    if not first:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    names = {*first, *second}
    chance = sum(first.count(name) * second.count(name) for name in names) / len(first) ** 2
    return (agreed - chance) / (1 - chance) if chance < 1 else None


class ConceptLabeller(Protocol):
    """Says which of the six concepts a label belongs to; None when it can't."""

    identity: str

    def concept(self, label: str) -> str | None: ...


class VocabularyLabeller:
    """The concept that the image set's vocabulary gives a label."""

    identity = "vocabulary"

    def __init__(self, vocabulary: Mapping[str, str]) -> None:
        self._vocabulary = vocabulary

    def concept(self, label: str) -> str | None:
        return self._vocabulary.get(label)


def hard_shuffled(
    labels: Mapping[str, str | None], similarity: Similarity, vocabulary: Mapping[str, str]
) -> dict[str, str]:
    """For each label the nearest other explanation: of the same concept if another latent has one.

    Otherwise the nearest other label of that concept in the vocabulary, otherwise the nearest
    explanation of any concept. A label without any other is left out.

    Args:
        labels: explanations of one SAE's latents, each with its concept.
    """
    names = sorted({*labels, *vocabulary})
    if not names:
        return {}
    near = similarity(names)
    place = {name: i for i, name in enumerate(names)}
    chosen = {}
    for label, concept in labels.items():
        pools: list[list[str]] = [
            [other for other, kind in labels.items() if kind == concept and other != label],
            [other for other, kind in vocabulary.items() if kind == concept and other != label],
            [other for other in labels if other != label],
        ]
        pool = next((pool for pool in pools if pool), None)
        if pool:
            chosen[label] = max(sorted(pool), key=lambda other: near[place[label], place[other]])
    return chosen


def attribute_edited(
    explanation: str, vocabulary: Mapping[str, str], rng: np.random.Generator
) -> str | None:
    """The explanation with one colour, texture or material replaced; None when it names none."""
    words = explanation.split()
    places = [i for i, word in enumerate(words) if vocabulary.get(word.casefold()) in ATTRIBUTES]
    if not places:
        return None
    at = int(rng.choice(places))
    old = words[at].casefold()
    others = [v for v, c in vocabulary.items() if c == vocabulary[old] and v != old]
    if not others:
        return None
    words[at] = str(rng.choice(others))
    return " ".join(words)
