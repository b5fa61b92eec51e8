"""Options of feature tasks: where labels are true, how exemplars are found, who explains."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from .options import choice, taken, together

_CHAT = "openai/MODEL, a URL[#model] or replay:FILE"
_FILE = click.Path(path_type=Path, exists=True)

explaining_options = together(
    click.option(
        "--image-set",
        metavar="DIR|dataset:REF",
        help="Pictures to search exemplars in and, a third of them held out, to score on: a "
        "folder, or a data set, folder or hub id[@revision][:split], with masks if it has any.  "
        "[default: the testbed's]",
    ),
    click.option(
        "--label-names",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="What numbers in masks of --image-set mean, as JSON.  [default: names.json or "
        "id2label.json in its folder]",
    ),
    click.option(
        "--segmenter",
        metavar="REF",
        default="exact",
        show_default=True,
        help="Where explanations are true, for iou, detect and fuzz: 'exact' masks of the images, "
        "or DETECTOR+SAM, a GroundingDINO and a SAM, hub ids or folders; 'released' is the "
        "paper's pair.",
    ),
    choice(
        "--pooling",
        among=("mean", "max", "p99"),
        help="How strongly a latent fires on an image, over its tokens. The paper's is the mean.",
    ),
    click.option(
        "--near-duplicates",
        type=click.IntRange(0, 32),
        metavar="BITS",
        help="Leave out images whose 64-bit hash is this near to another's.  [default: keep all; "
        "of --image-set 4]",
    ),
    click.option(
        "--clip",
        metavar="REF",
        help="A transformers CLIP, folder or hub id, or open_clip:NAME/PRETRAINED.  "
        "[default: the testbed's]",
    ),
    click.option(
        "--explainer",
        metavar="REF",
        help=f"Who explains: {_CHAT}; hf:REF, another LMM; soft-wpmi, labels by CLIP alone.  "
        "[default: the LMM under study]",
    ),
    click.option(
        "--refiner",
        metavar="REF",
        help=f"Who shortens explanations: {_CHAT}.  [default: a chat explainer itself]",
    ),
    click.option(
        "--labeller",
        metavar="REF",
        help=f"Who sorts labels into the six concepts: {_CHAT}.  [default: as --refiner]",
    ),
    click.option(
        "--second-labeller",
        metavar="REF",
        help="Sorts them again: Cohen's kappa of the two is reported.",
    ),
    click.option(
        "--prompt-file",
        type=_FILE,
        help='Your own prompts: a JSON object of "explainer", "refiner" and "labeller".',
    ),
    click.option(
        "--explanations",
        type=_FILE,
        help="Explanations from a file or folder, in the released code's JSON; nobody is asked.",
    ),
)


def roles_of(options: dict[str, Any]) -> dict[str, str | None]:
    """Who was named for what, taken out of a command's options."""
    return taken(options, ("explainer", "refiner", "labeller", "second_labeller"))


def feature_params(options: dict[str, Any], tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """Per task what differs from the defaults, which make no other run; taken out of `options`."""
    segmenting = _segmenting(options.pop("segmenter"), tasks)
    searching = _searching(taken(options, ("pooling", "near_duplicates", "clip")), tasks)
    named = (*segmenting, *searching)
    return {task: segmenting.get(task, {}) | searching.get(task, {}) for task in named}


def _segmenting(ref: str, tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """By name and by its weights, so that others are another run."""
    if ref == "exact":
        return {}
    from ..tasks.features.segment import RELEASED, open_segmenter
    from ..tasks.needs import SEGMENTER

    using = _needing(SEGMENTER, tasks)
    if not using:
        raise UsageError("--segmenter is for the tasks iou, detect and fuzz; add one to --tasks")
    ref = RELEASED if ref == "released" else ref
    found = {"ref": ref, "identity": open_segmenter(ref).identity}
    return {task: {"segmenter": found} for task in using}


def _searching(chosen: dict[str, Any], tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """How exemplars are found and what CLIP sees them."""
    default = {"pooling": "mean", "near_duplicates": None, "clip": None}
    found = {name: value for name, value in chosen.items() if value != default[name]}
    if not found:
        return {}
    from ..tasks.needs import EXEMPLARS

    if clip := found.get("clip"):
        from ..tasks.features.clip import open_clip_scorer

        found["clip"] = {"ref": clip, "identity": open_clip_scorer(clip).identity}
    return dict.fromkeys(_needing(EXEMPLARS, tasks), found)


def _needing(what: str, tasks: Collection[str]) -> list[str]:
    """Those that declare it. Raises `UnknownNameError` for a task that there isn't."""
    from ..harness.registry import TASKS
    from ..tasks.needs import needs

    return [task for task in tasks if needs(TASKS.get(task), what)]
