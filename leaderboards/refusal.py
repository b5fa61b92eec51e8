"""Why a submission is refused: one stable code per reason, to be looked up and scripted with."""

from __future__ import annotations

from ..errors import InvalidSubmissionError

CODES = {
    "LB001": "not a complete set of files: run.json or manifest.json is missing",
    "LB002": "a file is not the JSON that a run consists of",
    "LB003": "a file, or all of them, are too large",
    "LB004": "JSON nested too deep, or numbers that are none",
    "LB005": "a path or name that could lead out of the board's folder",
    "LB006": "the run is partial or limited",
    "LB007": "a file is missing or differs from the manifest",
    "LB008": "the run's id, counts or tasks contradict each other",
    "LB009": "a metric is not what the samples give",
    "LB010": "a task is not installed in the version that made the run",
    "LB011": "a value outside of its metric's range",
    "LB012": "chat models were asked, but their replies are not there",
    "LB013": "a submission on the board is never changed",
}
"""Codes are never given another meaning."""


def refusal(code: str, reason: str) -> InvalidSubmissionError:
    """The exception to raise; its message is one line that begins with the code."""
    assert code in CODES
    return InvalidSubmissionError(f"{code}: {reason}")
