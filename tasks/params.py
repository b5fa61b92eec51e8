"""A task's parameters as its options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import UsageError


def known_params(task: str, known: Collection[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters. Raises `UsageError` on one that the task doesn't know."""
    if unknown := sorted(set(params) - set(known)):
        raise UsageError(f"{task} has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return dict(params)
