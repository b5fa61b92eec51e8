"""`lmmsae-eval export-config RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from .find import find_run
from .options import json_option, print_json, runs_option


@click.command("export-config")
@click.argument("ref", metavar="RUN")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .toml or .yaml file.  [default: TOML on stdout]",
)
@runs_option
@json_option
def command(ref: str, out: Path | None, output_dir: Path, as_json: bool) -> None:
    """Write the options that made a run, for `run --config FILE`. Paths are as they were typed."""
    from ..harness.config import toml_text, write_config
    from ..tasks.exporting import run_options

    run = find_run(ref, output_dir)
    options = run_options(run)
    heading = f"Makes {run.id} again: lmmsae-eval run --config FILE"
    if out is not None:
        write_config(out, options, heading)
        click.echo(out)
    elif as_json:
        print_json(options)
    else:
        click.echo(f"# {heading}\n{toml_text(options)}", nl=False)
