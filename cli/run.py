"""`lmmsae-eval run`: the main job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..harness.progress import progress_for
from .config import config_params, load_config
from .explaining import explaining_options, feature_params, roles_of
from .group import Interrupted
from .judging import CALLING, calling, judge_options
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
    taken,
)
from .planned import print_plan
from .published import publish
from .steering import steering_options, steering_params

if TYPE_CHECKING:
    from ..harness.rundir import Run


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
    help="iou,clip,consistency,halluc,chair,dissect,attr_faithfulness,core,mono,detect,fuzz or a "
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
@partial(model_option, more=" Images and questions are the testbed's, unless others are named.")
@loading_options
@judge_options
@click.option(
    "--protocol",
    default="strict",
    show_default=True,
    help="Which rules the tasks follow: strict; iou, clip and consistency also paper, iou and clip "
    "released. Under these the model sees every picture squashed, as --image-tokens squash does.",
)
@seed_option
@explaining_options
@steering_options
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
    output_dir: Path,
    leaderboard: Path,
    progress: Literal["auto", "rich", "plain", "none"],
    repeats: int,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate SAEs on tasks, write a report, add the run to the local leaderboard.

    With --tasks alone everything runs on the embedded testbed: no network, GPU or key. Typed again,
    the same command resumes what was stopped and reuses what is complete.
    """
    how = taken(options, CALLING)
    # A repeat is a new call: a reply of another run would only repeat what that one has heard.
    how["reply_cache"] &= repeats == 1
    asked, calls = _asked(options), calling(**how)
    if dry_run:
        print_plan(asked, output_dir, how, repeats, as_json=as_json)
        return
    runs = _run(asked | calls, output_dir, progress, repeats)
    publish(runs, leaderboard, as_json=as_json)


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the library takes them: per task its parameters, per role who has it."""
    tasks = list(options["tasks"])
    params = _params(steering_params(options, tasks), feature_params(options, tasks))
    found = {"loading": loading_of(options), "roles": roles_of(options), "params": params}
    several = {name: list(options[name]) or None for name in ("saes", "layers")}
    return {**options, **several, **found, "tasks": tasks}


def _params(*chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of `--config`, and over them what other options mean for a task."""
    params = config_params(click.get_current_context())
    for task, more in (pair for one in chosen for pair in one.items()):
        params[task] = {**params.get(task, {}), **more}
    return params


def _run(
    asked: Mapping[str, Any],
    output_dir: Path,
    progress: Literal["auto", "rich", "plain", "none"],
    repeats: int,
) -> list[Run]:
    """One a seed, up to the first that stays partial."""
    shown = progress_for(progress)
    shown.say(f"{', '.join(asked['tasks'])} on {asked['model']}: loading")
    from ..tasks.session import run as run_tasks

    runs: list[Run] = []
    try:
        for seed in range(asked["seed"], asked["seed"] + repeats):
            runs.append(run_tasks(**{**asked, "seed": seed}, output_dir=output_dir, progress=shown))
            if runs[-1].status == "partial":
                break
    except KeyboardInterrupt:
        message = f"interrupted; what was done is kept, go on with: {_typed()}"
        raise Interrupted(message) from None
    return runs


def _typed() -> str:
    return shlex.join(["lmmsae-eval", *sys.argv[1:]])
