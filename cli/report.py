"""`lmmsae-eval report RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from .find import find_run
from .options import print_json, runs_option


@click.command("report")
@click.argument("ref", metavar="RUN")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "json"]),
    default="html",
    show_default=True,
    help="html is written to a file; md and json go to stdout.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML page.  [default: beside the run]",
)
@runs_option
def command(
    ref: str, form: Literal["html", "md", "json"], to: Path | None, output_dir: Path
) -> None:
    """Write a run's report: scores, plots and pictures on one page."""
    run = find_run(ref, output_dir)
    if form == "html":
        from ..reports.html import write_report

        click.echo(write_report(run, to))
    elif form == "md":
        from ..reports.markdown import render_markdown

        click.echo(render_markdown(run))
    else:
        from ..reports.view import render_json

        print_json(render_json(run))
