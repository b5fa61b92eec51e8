"""What this floor expects of whoever shows progress; it never prints itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class ProgressStep(Protocol):
    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        """What to show beside the count from now on."""


class Progress(Protocol):
    def step(self, label: str, total: int | None) -> AbstractContextManager[ProgressStep]: ...

    def say(self, text: str) -> None: ...


class _QuietStep:
    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Quiet:
    """Shows nothing."""

    def step(self, label: str, total: int | None) -> AbstractContextManager[ProgressStep]:
        return nullcontext(_QuietStep())

    def say(self, text: str) -> None:
        pass
