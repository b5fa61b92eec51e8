"""`lmmsae-eval submit RUN --leaderboard DIR`."""

from __future__ import annotations

from pathlib import Path

import click

from .advice import print_advisories
from .find import find_run
from .options import LEADERBOARD, runs_option


@click.command("submit")
@click.argument("ref", metavar="RUN")
@click.option(
    "--leaderboard",
    type=click.Path(path_type=Path, file_okay=False),
    default=LEADERBOARD,
    show_default=True,
    help="The board's folder; made when there is none.",
)
@runs_option
def command(ref: str, leaderboard: Path, output_dir: Path) -> None:
    """Add a complete run to a leaderboard and rebuild its page."""
    from ..leaderboards import build_site, submit

    run = find_run(ref, output_dir)
    print_advisories(run)
    submit(run, leaderboard)
    click.echo(build_site(leaderboard))
