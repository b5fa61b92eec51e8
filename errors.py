"""The exceptions of the package, as a tree, each with its exit code. Every floor may import it.

* LmmsaeEvalError (1)
  * UsageError (2)
    * UnknownNameError
    * BadImageError
  * IncompleteError (3)
  * ChatError (3)
  * RegressionError (4)
  * NotComparableError (5)
  * InvalidSubmissionError (6)
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LmmsaeEvalError(Exception):
    """Anything that is told to the user in one line. The message names the next step."""

    exit_code = 1


class UsageError(LmmsaeEvalError):
    """Bad input: an option, a path, a file's content."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A task, model or judge that nobody registered; says what was probably meant."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class BadImageError(UsageError):
    """An image that can't be read or has no pixels."""


class IncompleteError(LmmsaeEvalError):
    """The run stopped before its end; the same command goes on with it."""

    exit_code = 3


class ChatError(LmmsaeEvalError):
    """A chat model gave no usable reply to one request; the same command asks again."""

    exit_code = 3


class RegressionError(LmmsaeEvalError):
    """A gated metric fell below its baseline."""

    exit_code = 4


class NotComparableError(LmmsaeEvalError):
    """Two runs differ in task version, data, samples or judge."""

    exit_code = 5


class InvalidSubmissionError(LmmsaeEvalError):
    """A leaderboard submission that does not hold up."""

    exit_code = 6
