"""What can be chosen for `chair`: how many captions, and all that `halluc` has for its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..hallucination.neutral import WORDING
from ..hallucination.options import Options as HallucOptions
from ..params import known_params


@dataclass(frozen=True, slots=True)
class Options:
    """The defaults fit two slow cores."""

    n_captions: int = 96
    """At most so many test figures are described."""
    prompt: str = WORDING
    max_new_tokens: int = 64
    random: int = 3
    """Random draws of other live latents."""
    objects: Mapping[str, str] | None = None
    """`ref` of what says which objects are in the figures, and its `identity`; None: the image
    set's own.
    """
    features: Mapping[str, Any] = field(default_factory=dict)
    """`halluc`'s options of how features and strengths are chosen."""

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Options:
        """Options from a task's params. Raises UsageError on one that doesn't exist."""
        own = {each.name for each in fields(cls)} - {"features"}
        choosing = {each.name for each in fields(HallucOptions)}
        given = known_params("chair", own | choosing, params)
        features = {name: value for name, value in given.items() if name not in own}
        HallucOptions.read(features)
        return cls(**{k: v for k, v in given.items() if k in own}, features=features)
