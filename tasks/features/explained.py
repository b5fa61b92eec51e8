"""Samples of tasks that hold a latent against its explanation, with the controls of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .clip_scores import wrong_labels
from .explain import without_label
from .latent_samples import label_for, latent_sample
from .study import studies

if TYPE_CHECKING:
    from ...harness.task import Context, Outcome, Sample
    from ..subject import Subject
    from .study import Study

EXPLAINED_ARMS = ("main", "hard_shuffled", "untrained")


@dataclass(frozen=True, slots=True)
class Explained:
    """One latent and the label that it is held against."""

    study: Study
    place: int
    """Of the SAE in the run."""
    latent: int
    label: str | None

    def without_label(self) -> Outcome:
        """What becomes of it when there is none."""
        return without_label(self.study.explanations[self.latent], "no other label")


def explained_samples(context: Context[Subject]) -> Iterator[Sample]:
    """One sample per latent and arm: its own explanation, and the nearest wrong one."""
    for place, study in enumerate(studies(context)):
        main = study.arm == "main"
        wrong = wrong_labels(study, context) if main else {}
        for latent in study.explanations:
            yield _sample(study, place, latent, study.arm, None)
            if main:
                yield _sample(study, place, latent, "hard_shuffled", wrong)


def _sample(
    study: Study, place: int, latent: int, arm: str, wrong: Mapping[str, str] | None
) -> Sample:
    said = study.explanations[latent]
    item = Explained(study, place, latent, label_for(said, wrong))
    return latent_sample(study.sae, latent, arm, item, suffix=f"/{arm}", concept=said.concept)
