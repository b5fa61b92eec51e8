"""Leaderboards: submissions that hold up, ranked with their intervals, on one static page.

leaderboard.json                          the index
submissions/<sae-slug>/<run_id>/          run.json, samples/*.jsonl.gz, judge.jsonl.gz,
                                          manifest.json
site/index.html                           made from the two, never edited
"""

from __future__ import annotations

from .board import Submission, load_board, submit, verify_board
from .site import build_site

__all__ = ["Submission", "build_site", "load_board", "submit", "verify_board"]
