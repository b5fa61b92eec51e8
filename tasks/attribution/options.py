"""What can be chosen for `attr_faithfulness`, with defaults that fit two slow cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..params import known_params


@dataclass(frozen=True, slots=True)
class Options:
    """How many questions, and how closely each is looked at."""

    n_questions: int = 32
    """At most so many test questions, each of an image family of its own."""
    n_top: int = 12
    """Latents of most attribution that are ablated one by one..."""
    n_random: int = 12
    """... and of the others that fire, at random."""
    steps: int = 32
    """Points of the path of integrated gradients; 0 leaves that arm out."""
    random: int = 1
    """Draws of the random order."""

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Options:
        """Options from a task's params. Raises UsageError on one that doesn't exist."""
        known = [each.name for each in fields(cls)]
        return cls(**known_params("attr_faithfulness", known, params))
