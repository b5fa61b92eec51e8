"""`lmmsae-eval annotate export RUN | import FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from .find import find_run
from .options import runs_option, seed_option

PAGES = Path("annotate")


@click.group("annotate")
def command() -> None:
    """Let people rate a run's explanations 0 or 1, blind to the judge's verdict."""


@command.command("export")
@click.argument("ref", metavar="RUN")
@click.option("--n", type=click.IntRange(min=1), default=100, show_default=True, help="How many.")
@seed_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the page.  [default: annotate/RUN]",
)
@runs_option
def export_(ref: str, n: int, seed: int, out: Path | None, output_dir: Path) -> None:
    """Write a page to rate on, pictures included; it needs no server, and saves a ratings file."""
    from ..reports.annotate import export

    run = find_run(ref, output_dir)
    click.echo(export(run, out or PAGES / run.id, n, seed))


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@runs_option
def import_(file: Path, output_dir: Path) -> None:
    """Check a ratings file; make a child run with the agreement between person and judge."""
    from ..reports.annotate import read_ratings
    from ..reports.ratings import import_ratings
    from .scores import print_scores

    ratings = read_ratings(file)
    child = import_ratings(find_run(ratings.run_id, output_dir), ratings, output_dir)
    print_scores(child, by=("arm",))
    click.echo(f"run  {child.path}")
