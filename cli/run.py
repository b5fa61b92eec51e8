"""`lmmsae-eval run`: the main job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import IncompleteError, InvalidSubmissionError, UsageError
from ..harness.progress import progress_for
from .group import Interrupted
from .options import (
    LEADERBOARD,
    count_or_share,
    layers_option,
    model_option,
    output_option,
    progress_option,
    seed_option,
    split_commas,
)

if TYPE_CHECKING:
    from ..harness.rundir import Run


@click.command("run")
@click.option(
    "-t",
    "--tasks",
    multiple=True,
    required=True,
    callback=split_commas,
    metavar="LIST",
    help="iou,clip,consistency,halluc,dissect,attr_faithfulness or a plugin's; "
    "`lmmsae-eval ls tasks` lists them.",
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
@partial(model_option, more=" Images and questions are the testbed's.")
@click.option(
    "--judge",
    metavar="REF",
    help="openai/MODEL, a URL[#model] or replay:FILE.  [default: the testbed's labels]",
)
@click.option(
    "--protocol", default="strict", show_default=True, help="Which rules the tasks follow."
)
@seed_option
@click.option(
    "--segmenter",
    metavar="REF",
    default="exact",
    show_default=True,
    help="Where explanations are true, for iou: 'exact' masks of the images, or DETECTOR+SAM, a "
    "GroundingDINO and a SAM, hub ids or folders; 'released' is the paper's pair.",
)
@click.option(
    "--limit",
    callback=count_or_share,
    metavar="N|SHARE",
    help="The first clusters of each SAE and arm: a quick look, marked as such.",
)
@output_option
@click.option(
    "--leaderboard",
    type=click.Path(path_type=Path, file_okay=False),
    default=LEADERBOARD,
    show_default=True,
    help="The board that a complete run is added to.",
)
@progress_option
def command(
    tasks: tuple[str, ...],
    saes: tuple[str, ...],
    layers: tuple[str | int, ...],
    model: str,
    judge: str | None,
    protocol: str,
    seed: int,
    segmenter: str,
    limit: int | float | None,
    output_dir: Path,
    leaderboard: Path,
    progress: Literal["auto", "rich", "plain", "none"],
) -> None:
    """Evaluate SAEs on tasks, write a report, add the run to the local leaderboard.

    With --tasks alone everything runs on the embedded testbed: no network, GPU or key. Typed again,
    the same command resumes what was stopped and reuses what is complete.
    """
    shown = progress_for(progress)
    shown.say(f"{', '.join(tasks)} on {model}: loading")
    from ..tasks.session import run as run_tasks

    try:
        run = run_tasks(
            list(tasks),
            saes=list(saes) or None,
            layers=list(layers) or None,
            model=model,
            judge=judge,
            protocol=protocol,
            output_dir=output_dir,
            seed=seed,
            limit=limit,
            params=_params(segmenter, tasks),
            progress=shown,
        )
    except KeyboardInterrupt:
        message = f"interrupted; what was done is kept, go on with: {_typed()}"
        raise Interrupted(message) from None
    _publish(run, leaderboard)


def _params(segmenter: str, tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """The segmenter by name and by its weights, so that others are another run."""
    if segmenter == "exact":
        return {}
    if "iou" not in tasks:
        raise UsageError("--segmenter is for the task iou; add it to --tasks")
    from ..tasks.features.grounded_sam import RELEASED, GroundedSam

    ref = RELEASED if segmenter == "released" else segmenter
    return {"iou": {"segmenter": {"ref": ref, "identity": GroundedSam(ref).identity}}}


def _typed() -> str:
    return shlex.join(["lmmsae-eval", *sys.argv[1:]])


def _publish(run: Run, leaderboard: Path) -> None:
    """Scores on stdout, the report beside the run, the run on the board."""
    from ..leaderboards import build_site, submit
    from ..reports.html import write_report
    from .scores import print_scores

    report = write_report(run)
    print_scores(run)
    click.echo(f"run          {run.path}")
    click.echo(f"report       {report}")
    try:
        submit(run, leaderboard)
        click.echo(f"leaderboard  {build_site(leaderboard)}")
    except InvalidSubmissionError as error:
        # A board may refuse a run, limited ones for one; the run is as good as before.
        click.echo(f"leaderboard  not added: {error}")
    if run.status == "partial":
        raise IncompleteError(
            f"{_broken(run)} samples broke, see `lmmsae-eval show {run.path} --failed`; "
            "the same command tries them again"
        )


def _broken(run: Run) -> int:
    return sum(int(counts["error"]) for counts in run.document["counts"].values())
