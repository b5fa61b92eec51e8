"""What this floor expects of whoever shows progress; it never prints itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import Any, Protocol


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


class Pace:
    """The bar, and beside it the latest numbers: means over the layers."""

    def __init__(self, bar: ProgressStep, batch_tokens: int) -> None:
        self._bar = bar
        self._batch_tokens = batch_tokens
        self._began = time.monotonic()
        self._steps = 0

    def advance(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._steps += 1
        self._bar.advance()
        if lines:
            fvu, l0, dead = (fmean(line[key] for line in lines) for key in ("fvu", "l0", "dead"))
            seconds = max(1e-9, time.monotonic() - self._began)
            speed = self._steps * self._batch_tokens / seconds
            self._bar.note(f"FVU {fvu:.3f}, L0 {l0:.1f}, dead {dead:.1%}, {speed:,.0f} tokens/s")
