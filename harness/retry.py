"""How a call is tried again: with growing pauses, or when the endpoint says, within a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from ..errors import ChatError

T = TypeVar("T")
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What calls may take. None of it changes what a model answers."""

    timeout: float = 60.0
    """Seconds of one attempt."""
    total: float = 300.0
    """Seconds of one call with all its attempts and the pauses between them."""
    retries: int = 6
    pause: float = 0.5
    """Seconds before the second attempt; before each further one twice as long."""
    concurrency: int = 4
    """Calls at once."""


class PassingError(ChatError):
    """May be gone at the next attempt. `wait`: seconds that the endpoint asks for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def attempts(
    call: Callable[[], T], policy: Policy, sleep: Callable[[float], object] = time.sleep
) -> tuple[T, int]:
    """The result of the first attempt that succeeds, and how many there were.

    Raises what `call` raises, unless that is a `PassingError`, which is tried again: `retries`
    times, and never beyond `total` seconds; then a `ChatError`.
    """
    end = time.monotonic() + policy.total
    for attempt in range(policy.retries + 1):
        try:
            return call(), attempt + 1
        except PassingError as error:
            pause = _pause(policy.pause, attempt) if error.wait is None else error.wait
            if attempt == policy.retries:
                raise ChatError(str(error)) from error
            if time.monotonic() + pause > end:
                raise ChatError(_too_late(error, policy)) from error
            sleep(pause)
    raise AssertionError


def _too_late(error: PassingError, policy: Policy) -> str:
    asked = f"; it asks to wait {error.wait:.0f} s" if error.wait else ""
    return f"{error}{asked}; given up within {policy.total:.0f} s for one call"


def _pause(first: float, attempt: int) -> float:
    """Never the same for two callers."""
    return min(_LONGEST_PAUSE, first * 2.0**attempt) * random.uniform(0.75, 1.25)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait: `retry-after-ms`, `retry-after` in seconds or as a date.

    None when it doesn't say, or says what is no time.
    """
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        return _until(headers["retry-after"]) if "retry-after" in headers else None


def _until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    # A date without a zone is meant as UTC: the header knows no other.
    aware = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
