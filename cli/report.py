"""`lmmsae-eval report RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ..errors import UsageError
from .find import find_run
from .options import choice, json_option, json_text, runs_option


@click.command("report")
@click.argument("ref", metavar="RUN")
@choice("--format", "form", among=("html", "md", "json"))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="A file, or for html a folder.  [default: html beside the run, md and json to stdout]",
)
@click.option(
    "--single-file",
    is_flag=True,
    help="One html file to send, with at most 200 of its cards.",
)
@runs_option
@json_option
def command(
    ref: str,
    form: Literal["html", "md", "json"],
    out: Path | None,
    single_file: bool,
    output_dir: Path,
    as_json: bool,
) -> None:
    """Write a run's report: scores, plots and pictures on one page."""
    form = "json" if as_json else form
    if single_file and form != "html":
        raise UsageError(f"--single-file is for html; {form} is one file anyway")
    run = find_run(ref, output_dir)
    if form == "json":
        from ..reports.view import render_json

        _give(json_text(render_json(run)), out)
    elif form == "html":
        from ..reports.html import write_report

        click.echo(write_report(run, out, single_file=single_file))
    else:
        from ..reports.markdown import render_markdown

        _give(render_markdown(run), out)


def _give(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text)
    else:
        from ..harness.writing import replace_bytes

        replace_bytes(out, text.encode() + b"\n")
        click.echo(out)
