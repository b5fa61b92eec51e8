"""`lmmsae-eval annotate export RUN | import FILE... | agreement RUN`."""

from __future__ import annotations

from pathlib import Path

import click

from .find import find_run
from .options import json_option, print_json, runs_option, seed_option

PAGES = Path("annotate")


@click.group("annotate")
def command() -> None:
    """Let people rate a run's explanations 0 or 1, blind to the judge's verdict."""


@command.command("export")
@click.argument("ref", metavar="RUN")
@click.option("--n", type=click.IntRange(min=1), default=100, show_default=True, help="How many.")
@click.option(
    "--raters",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="How many pages; all have the same items, each in an order of its own.",
)
@seed_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the pages.  [default: annotate/RUN]",
)
@runs_option
def export_(ref: str, n: int, raters: int, seed: int, out: Path | None, output_dir: Path) -> None:
    """Write a page for each rater, pictures included; it needs no server and saves one file."""
    from ..reports.annotate import export

    run = find_run(ref, output_dir)
    for page in export(run, out or PAGES / run.id, n, raters, seed):
        click.echo(page)


@command.command("import")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
)
@runs_option
def import_(files: tuple[Path, ...], output_dir: Path) -> None:
    """Check ratings files, one a rater; make a child run of them all."""
    from ..reports.html import write_report
    from ..reports.rating_files import read_ratings
    from ..reports.ratings import import_ratings
    from .scores import print_scores

    ratings = [read_ratings(file) for file in files]
    child = import_ratings(find_run(ratings[0].draw.run_id, output_dir), ratings, output_dir)
    print_scores(child, by=("arm",))
    click.echo(f"report  {write_report(child)}")
    click.echo(f"run     {child.path}")


@command.command("agreement")
@click.argument("ref", metavar="RUN")
@json_option
@runs_option
def agreement(ref: str, as_json: bool, output_dir: Path) -> None:
    """Say how far people agree, with each other and with the judge, and what more would buy.

    RUN is one that `import` has made.
    """
    from ..reports.agreement import agreement_json, agreement_tables
    from .table import print_table

    run = find_run(ref, output_dir)
    if as_json:
        print_json(agreement_json(run))
        return
    for table in agreement_tables(run):
        click.echo(f"\n{table.title}")
        print_table(table.columns, table.rows, table.numbers)
        for note in table.notes:
            click.echo(note)
