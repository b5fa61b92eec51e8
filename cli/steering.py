"""Options of `run` for halluc and chair: which questions, what proposes features, controls."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from ..errors import UsageError
from .options import choice, taken, together

_DEFAULTS = {"controls": "standard", "strategy": "attribution", "folds": 1, "objects": None}
_FOR = {
    "controls": ("halluc",),
    "strategy": ("halluc", "chair"),
    "folds": ("halluc", "chair"),
    "objects": ("chair",),
}
"""The tasks that each is for."""

steering_options = together(
    click.option(
        "--questions",
        metavar="REF",
        help="For halluc, chair and attr_faithfulness: hallusionbench, pope, amber (see "
        "`lmmsae-eval data`), or a JSON file in the HallusionBench schema.  "
        "[default: the testbed's]",
    ),
    click.option(
        "--images",
        metavar="PATH",
        help="The images of --questions: a folder, or a zip or tar archive.",
    ),
    choice(
        "--controls",
        among=("standard", "all"),
        help="For halluc: all adds matched latents, doses, token sets, a dense vector, a prompt, "
        "VCD.",
    ),
    choice(
        "--strategy",
        among=("attribution", "ssl", "save", "probe"),
        help="For halluc and chair: what proposes features on the dev questions.",
    ),
    click.option(
        "--folds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="For halluc and chair: from 2 on, cross-fitting; every family is tested with the "
        "others' choice.",
    ),
    click.option(
        "--objects",
        metavar="REF",
        help="For chair: which objects are in the images of --questions: amber, a folder of COCO's "
        "annotations, or a JSON file.  [default: the testbed's]",
    ),
)


def steering_params(options: dict[str, Any], tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """What differs from the defaults, which make no other run; taken out of `options`."""
    chosen = taken(options, _DEFAULTS)
    changed = {name: value for name, value in chosen.items() if value != _DEFAULTS[name]}
    for name in sorted(changed):
        if not set(_FOR[name]) & set(tasks):
            named = " and ".join(_FOR[name])
            raise UsageError(f"--{name} is for the task {named}; add it to --tasks")
    if "objects" in changed:
        changed["objects"] = _objects(changed["objects"])
    found = {
        task: {name: value for name, value in changed.items() if task in _FOR[name]}
        for task in ("halluc", "chair")
        if task in tasks
    }
    return {task: params for task, params in found.items() if params}


def _objects(ref: str) -> dict[str, str]:
    """By name and by what it says, so that others are another run."""
    from ..tasks.captions.truth import objects_place, read_truth

    return {"ref": ref, "identity": read_truth(objects_place(ref)).identity}
