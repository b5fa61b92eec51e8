"""`lmmsae-eval show RUN`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..harness.rundir import Run
from .advice import print_advisories
from .find import find_run
from .options import json_option, print_json, runs_option, split_commas
from .scores import SPLITS, heading, print_scores, select
from .table import print_table


def _splits(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    names = split_commas(ctx, param, values)
    for name in names:
        if name not in SPLITS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(SPLITS)}", ctx, param)
    return names


@click.command("show")
@click.argument("ref", metavar="RUN")
@click.option(
    "--by",
    multiple=True,
    callback=_splits,
    metavar="LIST",
    help=f"Split and sort by {', '.join(SPLITS)}; `metric` shows all of them.",
)
@click.option("--failed", is_flag=True, help="The samples without a score, and why.")
@runs_option
@json_option
def command(ref: str, by: tuple[str, ...], failed: bool, output_dir: Path, as_json: bool) -> None:
    """Print a run's scores. RUN is a folder, or an id in the runs' folder."""
    run = find_run(ref, output_dir)
    print_advisories(run)
    if as_json:
        found = {"failed": _failures(run)} if failed else {"metrics": select(run, by)}
        print_json({"run_id": run.id, "path": str(run.path), "status": run.status, **found})
    elif failed:
        _print_failures(run)
    else:
        print_scores(run, by)


def _failures(run: Run) -> list[Mapping[str, Any]]:
    return [
        line for task in run.tasks for line in run.lines(task["name"]) if line["status"] != "ok"
    ]


def _print_failures(run: Run) -> None:
    click.echo(heading(run))
    rows = [(line["task"], line["id"], line["status"], _reason(line)) for line in _failures(run)]
    if rows:
        print_table(("task", "sample", "status", "reason"), rows)
    else:
        click.echo("every stored sample has a score")


def _reason(line: Mapping[str, Any]) -> str:
    error = line["error"]
    if isinstance(error, Mapping):
        return f"{error['type']}: {error['message']}"
    return str(error or line["detail"].get("reason", ""))
