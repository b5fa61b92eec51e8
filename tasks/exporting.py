"""From a stored run to the options that make it again."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import UsageError
from ..harness.config import PARAMS
from ..harness.rundir import Run

_OUTSIDE_CONFIG = ("seed", "limit", "samples")
_FLAGS = {"saes": "sae"}
"""Options that the command spells otherwise than `run.json`."""


def run_options(run: Run) -> dict[str, Any]:
    """The options of `lmmsae-eval run`, those left out that were not given.

    Paths are as they were typed. Raises `UsageError` for a run that `run` didn't make.
    """
    document = run.document
    if document.get("parent"):
        raise UsageError(
            f"{run.path} was made from {document['parent']}; export the config of that run"
        )
    if not document.get("config"):
        raise UsageError(f"{run.path} keeps no options; it was not made by `lmmsae-eval run`")
    given = {**document["config"], **{key: document.get(key) for key in _OUTSIDE_CONFIG}}
    given |= {**given.pop("loading", {}), **_segmenter(given)}
    named = {_FLAGS.get(key, key): value for key, value in given.items()}
    return {key: value for key, value in named.items() if value not in (None, [], {}, ())}


def _segmenter(given: dict[str, Any]) -> dict[str, Any]:
    """By its reference alone: its weights are hashed anew, so that others are another run."""
    params = copy.deepcopy(given.get(PARAMS) or {})
    chosen = params.get("iou", {}).pop("segmenter", None)
    if chosen is None:
        return {}
    return {"segmenter": chosen["ref"], PARAMS: {task: p for task, p in params.items() if p}}
