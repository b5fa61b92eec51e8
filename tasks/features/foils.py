"""Items for a judge: what the explainer said, and foils that a judge should turn down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .labels import attribute_edited
from .masks import rolled

if TYPE_CHECKING:
    from .explain import Explanation
    from .imageset import SizeOf
    from .masks import Mask
    from .study import Split, Study

Kind = Literal["true", "shuffled", "moved", "neighbour", "edited", "none"]
FOILS: tuple[Kind, ...] = ("shuffled", "moved", "neighbour", "edited")
"""Another latent's explanation, nearest by text; the masks moved; the images of the latent with the
nearest decoder row; one colour, texture or material of the explanation replaced."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question to a judge. `kind` is for the record: no judge sees it."""

    study: Study
    latent: int
    kind: Kind
    explanation: str | None
    shown: int
    """The latent whose images are shown."""
    reason: str | None = None
    """Why there is nothing to ask."""
    split: Split = "top"
    """Held-out images, or those that the explanation was written from."""

    def pictures(self, size_of: SizeOf, seed: int) -> Iterator[tuple[int, Mask]]:
        """(index within the image set, lit pixels), best first."""
        for index, mask in self.study.masked(self.shown, self.split, size_of):
            if self.kind == "moved":
                mask = rolled(mask, np.random.default_rng([seed, self.latent, index]))
            yield index, mask


def items(
    study: Study, wrong: Mapping[str, str], vocabulary: Mapping[str, str], seed: int
) -> list[tuple[Item, Item]]:
    """For each explained latent the true item and one foil, of a kind drawn among those that fit.

    Args:
        wrong: label -> nearest wrong label.
    """
    maker = _Foils(study, wrong, vocabulary, seed)
    return [(_true(study, latent), maker.foil(latent)) for latent in study.explanations]


def _true(study: Study, latent: int) -> Item:
    said = study.explanations[latent]
    return Item(study, latent, "true", said.label, latent, said.reason)


class _Foils:
    """Makes foils of one SAE's explanations."""

    def __init__(
        self, study: Study, wrong: Mapping[str, str], vocabulary: Mapping[str, str], seed: int
    ) -> None:
        self._study, self._wrong, self._vocabulary = study, wrong, vocabulary
        self._seed = seed
        self._near = nearest_decoders(study)

    def foil(self, latent: int) -> Item:
        """A foil, or an item that says why there is none."""
        said = self._study.explanations[latent]
        if said.label is None:
            return Item(self._study, latent, "none", None, latent, said.reason)
        rng = np.random.default_rng([self._seed, self._study.sae.hookpoint.index, latent])
        for kind in rng.permutation(np.array(FOILS)).tolist():
            if item := self._of_kind(kind, latent, said, rng):
                return item
        return Item(self._study, latent, "none", None, latent, "no foil fits")

    def _of_kind(
        self, kind: Kind, latent: int, said: Explanation, rng: np.random.Generator
    ) -> Item | None:
        label, shown = said.label or "", latent
        explanation: str | None = label
        if kind == "shuffled":
            explanation = self._wrong.get(label)
        elif kind == "edited":
            explanation = attribute_edited(label, self._vocabulary, rng)
        elif kind == "neighbour":
            shown = self._near.get(latent, -1)
        # A scene is everywhere: wherever its mask moves, the explanation stays true.
        everywhere = said.concept == "scene" or not self._study.score.has_places
        if explanation is None or shown < 0 or (kind == "moved" and everywhere):
            return None
        return Item(self._study, latent, kind, explanation, shown)


def nearest_decoders(study: Study) -> dict[int, int]:
    """For each explained latent the one with another label whose decoder row is most similar."""
    explained = [i for i, said in study.explanations.items() if said.label]
    explained = [i for i in explained if study.score.top.count(i)]
    if not explained:
        return {}
    rows = study.sae.sae.W_dec[explained].detach().float().cpu().numpy()
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    labels = np.array([study.explanations[i].label for i in explained])
    cosines = np.where(labels[:, None] == labels, -np.inf, rows @ rows.T)
    best = cosines.argmax(1)
    return {
        latent: explained[int(best[row])]
        for row, latent in enumerate(explained)
        if np.isfinite(cosines[row, best[row]])
    }


def in_random_order(pairs: Sequence[tuple[Item, Item]], seed: int) -> list[Item]:
    """True items and foils mixed; each side by itself runs through the latents in one order."""
    rng = np.random.default_rng([seed, len(pairs)])
    order = rng.permutation(len(pairs))
    queues = [iter([pairs[i][side] for i in order]) for side in (0, 1)]
    sides = rng.permutation(np.repeat([0, 1], len(pairs)))
    return [next(queues[side]) for side in sides]
