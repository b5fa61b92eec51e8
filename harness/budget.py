"""What calls cost, and where to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import IncompleteError

if TYPE_CHECKING:
    from .transcript import Transcript

BATCH_SHARE = 0.5
"""Of the price, where questions go in batches: what OpenAI and others that have them charge."""
PICTURE_TOKENS = 800
"""Assumed of a picture before the endpoint has counted: what hosted models charge for one."""
ASSUMED_CALL = {"prompt_tokens": 5 * PICTURE_TOKENS + 500, "completion_tokens": 50}
"""Of one verdict on five pictures, before a run has counted: rather too much than too little."""
_LETTERS_A_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a million tokens."""

    prompt: float
    completion: float

    def of(self, usage: Mapping[str, Any]) -> float:
        """Dollars of so many `prompt_tokens` and `completion_tokens`."""
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        return (tokens[0] * self.prompt + tokens[1] * self.completion) / 1e6


def assumed_usage(system: str, parts: Sequence[Any], reply_tokens: int) -> dict[str, int]:
    """Tokens of a call that was not made yet, rather too many than too few."""
    letters = len(system) + sum(len(part) for part in parts if isinstance(part, str))
    pictures = sum(not isinstance(part, str) for part in parts)
    prompt = letters // _LETTERS_A_TOKEN + pictures * PICTURE_TOKENS
    return {"prompt_tokens": prompt, "completion_tokens": reply_tokens}


@dataclass
class Budget:
    """A limit over a whole run, what earlier processes have spent included.

    A call is set aside at its likely price before it is made, so that several at once can't
    overdraw. Where an endpoint counts no tokens, that price stands.
    """

    limit: float
    price: Price
    transcript: Transcript
    _aside: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def call(self, likely: Mapping[str, int]) -> Iterator[None]:
        """Around one call. Raises `IncompleteError` when it might go over the limit."""
        cost = self.price.of(likely)
        with self._lock:
            self.check(self._aside + cost)
            self._aside += cost
        try:
            yield
        finally:
            with self._lock:
                self._aside -= cost

    def check(self, more: float) -> None:
        """Raises `IncompleteError` when so many more dollars might go over the limit."""
        spent = self.spent
        if spent + more > self.limit:
            raise IncompleteError(
                f"stopped at ${spent:.4f} of --cost-limit {self.limit:g}: the next call may "
                "go over it; what was done is kept, go on with a higher --cost-limit"
            )

    @property
    def spent(self) -> float:
        """Dollars of all recorded calls, those in batches at the price of batches."""
        saved = (1 - BATCH_SHARE) * self.price.of(self.transcript.batch_tokens)
        return self.price.of(self.transcript.tokens) - saved
