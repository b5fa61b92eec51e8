"""`lmmsae-eval run`: the main job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import UsageError
from ..harness.progress import progress_for
from .config import config_params, load_config
from .explaining import explaining_options
from .group import Interrupted
from .judging import calling, judge_options
from .options import (
    LEADERBOARD,
    count_or_share,
    json_option,
    layers_option,
    loading_of,
    loading_options,
    model_option,
    output_option,
    progress_option,
    sample_ids,
    seed_option,
    split_commas,
)
from .planned import print_plan
from .published import publish

if TYPE_CHECKING:
    from ..harness.rundir import Run


_STEERING: Mapping[str, Any] = {"controls": "standard", "strategy": "attribution", "folds": 1}
_SEGMENTING = ("iou", "detect", "fuzz")
"""Tasks that look for a label in pictures."""
_SEARCHING = ("iou", "clip", "consistency", "dissect", "core", "mono", "detect", "fuzz")
"""Tasks that search exemplars."""


@click.command("run")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=load_config,
    metavar="FILE",
    help="Options from a TOML or YAML file, as `export-config` writes it; typed ones win.",
)
@click.option(
    "-t",
    "--tasks",
    multiple=True,
    required=True,
    callback=split_commas,
    metavar="LIST",
    help="iou,clip,consistency,halluc,dissect,attr_faithfulness,core,mono,detect,fuzz or a "
    "plugin's; `lmmsae-eval ls tasks` lists them.",
)
@click.option(
    "-s",
    "--sae",
    "saes",
    multiple=True,
    metavar="REF",
    help="SAEs: a folder or a hub id[@revision]; repeatable.  [default: trained here, then kept]",
)
@layers_option
@partial(model_option, more=" Images are the testbed's, and so are questions.")
@loading_options
@judge_options
@click.option(
    "--protocol",
    default="strict",
    show_default=True,
    help="Which rules the tasks follow: strict; iou and clip also paper and released.",
)
@seed_option
@click.option(
    "--segmenter",
    metavar="REF",
    default="exact",
    show_default=True,
    help="Where explanations are true, for iou, detect and fuzz: 'exact' masks of the images, or "
    "DETECTOR+SAM, a GroundingDINO and a SAM, hub ids or folders; 'released' is the paper's pair.",
)
@explaining_options
@click.option(
    "--questions",
    metavar="REF",
    help="For halluc: hallusionbench, pope, amber (see `lmmsae-eval data`), or a JSON file in the "
    "HallusionBench schema.  [default: the testbed's]",
)
@click.option(
    "--images",
    metavar="PATH",
    help="The images of --questions: a folder, or a zip or tar archive.",
)
@click.option(
    "--controls",
    type=click.Choice(["standard", "all"]),
    default="standard",
    show_default=True,
    help="For halluc: all adds matched latents, doses, token sets, a dense vector, a prompt, VCD.",
)
@click.option(
    "--strategy",
    type=click.Choice(["attribution", "ssl", "save", "probe"]),
    default="attribution",
    show_default=True,
    help="For halluc: what proposes features on the dev questions.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="For halluc: from 2 on, cross-fitting; every family is tested with the others' choice.",
)
@click.option(
    "--limit",
    callback=count_or_share,
    metavar="N|SHARE",
    help="The first clusters of each SAE and arm: a quick look, marked as such.",
)
@click.option(
    "--samples",
    multiple=True,
    callback=sample_ids,
    metavar="IDS|FILE",
    help="Only these, by id: commas between, or a file with one a line. Marked as limited.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="N runs, with seeds from --seed on, and how far their scores lie apart.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and take, and do nothing.")
@output_option
@click.option(
    "--leaderboard",
    type=click.Path(path_type=Path, file_okay=False),
    default=LEADERBOARD,
    show_default=True,
    help="The board that a complete run is added to.",
)
@progress_option
@json_option
def command(
    saes: tuple[str, ...],
    layers: tuple[str | int, ...],
    concurrency: int,
    call_timeout: float,
    cost_limit: float | None,
    segmenter: str,
    pooling: str,
    near_duplicates: int | None,
    clip: str | None,
    explainer: str | None,
    refiner: str | None,
    labeller: str | None,
    second_labeller: str | None,
    seed: int,
    output_dir: Path,
    leaderboard: Path,
    progress: Literal["auto", "rich", "plain", "none"],
    repeats: int,
    dry_run: bool,
    judge_price: tuple[float, float] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate SAEs on tasks, write a report, add the run to the local leaderboard.

    With --tasks alone everything runs on the embedded testbed: no network, GPU or key. Typed again,
    the same command resumes what was stopped and reuses what is complete.
    """
    tasks = options["tasks"] = list(options["tasks"])
    options |= {"saes": list(saes) or None, "layers": list(layers) or None, "seed": seed}
    options["loading"] = loading_of(options)
    steering = {name: options.pop(name) for name in _STEERING}
    searching = _searching(pooling, near_duplicates, clip, tasks)
    options["params"] = _params(chosen_params(segmenter, steering, tasks), searching)
    calls = calling(concurrency, call_timeout, cost_limit, judge_price)
    options["roles"] = {
        "explainer": explainer,
        "refiner": refiner,
        "labeller": labeller,
        "second_labeller": second_labeller,
    }
    if dry_run:
        print_plan(options, output_dir, judge_price, repeats, as_json=as_json)
        return
    shown = progress_for(progress)
    shown.say(f"{', '.join(tasks)} on {options['model']}: loading")
    from ..tasks.session import run as run_tasks

    runs: list[Run] = []
    try:
        for repeat in range(repeats):
            again = {**options, **calls, "seed": seed + repeat}
            runs.append(run_tasks(output_dir=output_dir, progress=shown, **again))
            if runs[-1].status == "partial":
                break
    except KeyboardInterrupt:
        message = f"interrupted; what was done is kept, go on with: {_typed()}"
        raise Interrupted(message) from None
    publish(runs, leaderboard, as_json=as_json)


def _params(*chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of `--config`, and over them what other options mean for a task."""
    params = config_params(click.get_current_context())
    for task, more in (pair for one in chosen for pair in one.items()):
        params[task] = {**params.get(task, {}), **more}
    return params


def _searching(
    pooling: str, near_duplicates: int | None, clip: str | None, tasks: Collection[str]
) -> dict[str, dict[str, Any]]:
    """How exemplars are found and what CLIP sees them, where it differs from the defaults."""
    found: dict[str, Any] = {} if pooling == "mean" else {"pooling": pooling}
    found |= {} if near_duplicates is None else {"near_duplicates": near_duplicates}
    if clip is not None:
        from ..tasks.features.clip import open_clip_scorer

        found["clip"] = {"ref": clip, "identity": open_clip_scorer(clip).identity}
    return {task: found for task in _SEARCHING if found and task in tasks}


def chosen_params(
    segmenter: str, steering: Mapping[str, Any], tasks: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Per task what differs from the defaults: the defaults themselves make no other run."""
    found = _segmenters(segmenter, tasks) | {"halluc": _steering(steering, tasks)}
    return {task: params for task, params in found.items() if params}


def _segmenters(ref: str, tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """By name and by its weights, so that others are another run."""
    if ref == "exact":
        return {}
    using = [task for task in _SEGMENTING if task in tasks]
    if not using:
        raise UsageError("--segmenter is for the tasks iou, detect and fuzz; add one to --tasks")
    from ..tasks.features.segment import RELEASED, open_segmenter

    ref = RELEASED if ref == "released" else ref
    found = {"ref": ref, "identity": open_segmenter(ref).identity}
    return {task: {"segmenter": found} for task in using}


def _steering(chosen: Mapping[str, Any], tasks: Collection[str]) -> dict[str, Any]:
    changed = {name: value for name, value in chosen.items() if value != _STEERING[name]}
    if changed and "halluc" not in tasks:
        raise UsageError(f"--{min(changed)} is for the task halluc; add it to --tasks")
    return changed


def _typed() -> str:
    return shlex.join(["lmmsae-eval", *sys.argv[1:]])
