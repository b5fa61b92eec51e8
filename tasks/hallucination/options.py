"""What can be chosen for the `halluc` task, with defaults that fit two slow cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...errors import UnknownNameError, UsageError
from ..params import known_params

SUPPRESSING = (0.0, 0.5, -1.0)
"""Ablate, halve, flip: for latents that push towards the wrong answer."""
AMPLIFYING = (2.0, 4.0)
"""For latents that push towards the right one."""
ATTRIBUTION = "attribution"
STRATEGIES = (ATTRIBUTION, "ssl", "save", "probe")
STANDARD, ALL = "standard", "all"


@dataclass(frozen=True, slots=True)
class Options:
    """All that decides how features are searched and how much is asked."""

    n_test: int | None = 480
    """About so many test questions, as whole families; None is all of them."""
    n_dev: int = 400
    """At most so many dev questions are searched on, of topics with enough wrong answers."""
    dev_per_topic: int = 40
    min_wrong: int = 3
    """Topics with fewer wrong dev answers are left alone: nothing can be chosen from them."""
    tried: int = 8
    """(latents, strength) that are run on the dev questions of each topic."""
    tried_global: int = 4
    """The same for the one edit of all topics."""
    max_latents: int = 3
    max_regression: float = 0.02
    """Largest share of right dev answers that the chosen edits may break."""
    random: int = 10
    """Random draws of other live latents."""
    strategy: str = ATTRIBUTION
    """What proposes features: attribution, ssl, save or probe (`strategies.py`)."""
    folds: int = 1
    """From 2 on: cross-fitting. Every family is tested, with what the other folds have chosen."""
    controls: str = STANDARD
    """`all` adds the arms of `controls.py`: matched latents, doses, token sets, prompt, VCD."""
    matched: int = 30
    """With all controls: draws of latents matched in firing rate and mean activation."""

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("strategy", self.strategy, STRATEGIES),
            ("set of controls", self.controls, (STANDARD, ALL)),
        ):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if self.folds < 1:
            raise UsageError(f"folds is {self.folds}; give 1 for one split, 5 for cross-fitting")

    @property
    def all_controls(self) -> bool:
        return self.controls == ALL

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Options:
        """Options from a task's params. Raises UsageError on one that doesn't exist."""
        known = [each.name for each in fields(cls)]
        return cls(**known_params("halluc", known, params))

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def choosing(self) -> dict[str, Any]:
        """Those that could change which features are chosen."""
        others = {"n_test", "random", "controls", "matched"}
        return {name: value for name, value in asdict(self).items() if name not in others}
