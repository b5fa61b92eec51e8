"""`lmmsae-eval baseline set RUN | show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..harness.baseline import BASELINE, Baseline, bless, load_baseline
from ..reports.table import score_row
from .find import find_run
from .options import json_option, print_json, runs_option
from .table import print_table

file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=BASELINE,
    show_default=True,
    help="The baseline; commit it.",
)


@click.group("baseline")
def command() -> None:
    """The scores that `check` holds runs against: blessed by a person, with a reason."""


@command.command("set")
@click.argument("ref", metavar="RUN")
@click.option("--reason", required=True, help="Why these are good scores; kept in the file.")
@file_option
@runs_option
def set_(ref: str, reason: str, file: Path, output_dir: Path) -> None:
    """Bless a complete run. The file keeps the story of those before it."""
    click.echo(bless(find_run(ref, output_dir), reason, file).path)


@command.command("show")
@file_option
@json_option
def show(file: Path, as_json: bool) -> None:
    """What was blessed, when and why, and its numbers."""
    baseline = load_baseline(file)
    if as_json:
        print_json({**_story(baseline), "metrics": baseline.snapshot.metrics})
        return
    click.echo(f"{baseline.snapshot.run_id}, blessed {baseline.blessed}: {baseline.reason}")
    for before in baseline.history:
        click.echo(f"before: {before['run_id']}, blessed {before['blessed']}: {before['reason']}")
    rows = [
        (row["task"], str(row["layer"] or "all"), row["metric"], score_row(row, {}).score_text)
        for row in baseline.snapshot.metrics
    ]
    print_table(("task", "layer", "metric", "score"), rows, ("score",))


def _story(baseline: Baseline) -> dict[str, Any]:
    return {
        "path": str(baseline.path),
        "run_id": baseline.snapshot.run_id,
        "blessed": baseline.blessed,
        "reason": baseline.reason,
        "history": [dict(before) for before in baseline.history],
    }
