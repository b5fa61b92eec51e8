"""What can be chosen for the `halluc` task, with defaults that fit two slow cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...errors import UsageError

SUPPRESSING = (0.0, 0.5, -1.0)
"""Ablate, halve, flip: for latents that push towards the wrong answer."""
AMPLIFYING = (2.0, 4.0)
"""For latents that push towards the right one."""


@dataclass(frozen=True, slots=True)
class Options:
    """All that decides how features are searched and how much is asked."""

    n_test: int = 480
    """About so many test questions, as whole families."""
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

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Options:
        """Options from a task's params. Raises UsageError on one that doesn't exist."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(params) - known):
            raise UsageError(
                f"halluc has no option {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        return cls(**params)

    def document(self) -> dict[str, Any]:
        return asdict(self)
