"""`lmmsae-eval report RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from .find import find_run
from .options import runs_option


@click.command("report")
@click.argument("ref", metavar="RUN")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page.  [default: RUN's id .html, beside the run]",
)
@runs_option
def command(ref: str, to: Path | None, output_dir: Path) -> None:
    """Write a run's report: one HTML page with scores, plots and pictures."""
    from ..reports.html import write_report

    run = find_run(ref, output_dir)
    click.echo(write_report(run, to))
