"""How far a long step is. Library code never prints: it is handed a `Progress`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID


class Step(Protocol):
    """One step under way."""

    def advance(self, n: int = 1) -> None:
        """`n` more units are done."""

    def note(self, text: str) -> None:
        """What to show beside the count from now on."""


class Progress(Protocol):
    """Where steps are shown."""

    def step(self, label: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Show a step for as long as the context lasts. Steps may be nested."""

    def say(self, text: str) -> None:
        """One line that stays."""


class SilentProgress:
    """Shows nothing: the default of library calls."""

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        yield _SilentStep()

    def say(self, text: str) -> None:
        return None


class _SilentStep:
    def advance(self, n: int = 1) -> None:
        return None

    def note(self, text: str) -> None:
        return None


class PlainProgress:
    """Lines for logs and pipes: start, end, and at most one every few seconds between."""

    def __init__(
        self,
        stream: TextIO | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._interval = interval
        self._clock = clock

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        step = _PlainStep(label, total, self.say, self._interval, self._clock)
        self.say(f"{label} ..." if total is None else f"{label}: 0/{total}")
        yield step
        step.finish()

    def say(self, text: str) -> None:
        _write(self._stream, text)


class _PlainStep:
    def __init__(
        self,
        label: str,
        total: int | None,
        say: Callable[[str], None],
        interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._label, self._total, self._say = label, total, say
        self._interval, self._clock = interval, clock
        self._done = 0
        self._note = ""
        self._start = self._last = clock()

    def advance(self, n: int = 1) -> None:
        self._done += n
        if self._clock() - self._last >= self._interval:
            self._last = self._clock()
            self._say(f"{self._label}: {self._count()}{self._eta()}{self._note}")

    def note(self, text: str) -> None:
        self._note = f", {text}"

    def finish(self) -> None:
        self._say(
            f"{self._label}: {self._count()} done in "
            f"{_duration(self._clock() - self._start)}{self._note}"
        )

    def _count(self) -> str:
        return str(self._done) if self._total is None else f"{self._done}/{self._total}"

    def _eta(self) -> str:
        if not self._total or not self._done:
            return ""
        rest = (self._last - self._start) * (self._total - self._done) / self._done
        return f", {_duration(rest)} left"


class RichProgress:
    """Bars with the time left, for a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bars: RichBars | None = None

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        outermost = self._bars is None
        bars = self._bars or self._open()
        task = bars.add_task(label, total=total, note="")
        try:
            yield _RichStep(bars, task)
        finally:
            if outermost:
                self._close()
            else:
                bars.remove_task(task)

    def say(self, text: str) -> None:
        if self._bars is None:
            _write(self._stream, text)
        else:
            self._bars.console.print(text, markup=False, highlight=False)

    def _open(self) -> RichBars:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        console = Console(file=self._stream or sys.stderr)
        self._bars = Progress(*columns, console=console)
        self._bars.start()
        return self._bars

    def _close(self) -> None:
        assert self._bars is not None
        self._bars.stop()
        self._bars = None


class _RichStep:
    def __init__(self, bars: RichBars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1) -> None:
        self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)


def progress_for(mode: Literal["auto", "rich", "plain", "none"] = "auto") -> Progress:
    """The display of a mode; `auto` is bars in a terminal and plain lines elsewhere."""
    if mode == "none":
        return SilentProgress()
    if mode == "rich" or (mode == "auto" and sys.stderr.isatty()):
        return RichProgress()
    return PlainProgress()


def _write(stream: TextIO | None, text: str) -> None:
    # sys.stderr is looked up late: test runners and notebooks replace it.
    out = stream or sys.stderr
    out.write(f"{text}\n")
    out.flush()


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
