"""`lmmsae-eval compare A B`."""

from __future__ import annotations

from pathlib import Path

import click

from ..harness.compare import BY, Comparison, Difference, compare
from .find import find_run
from .options import json_option, print_json, runs_option
from .scores import number
from .table import print_table

NUMBERS = ("A", "B", "B - A", "interval", "n", "p")


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "--by",
    type=click.Choice(BY),
    default="layer",
    show_default=True,
    help="One test per metric and this.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Chance of any false finding in the whole table (Holm).",
)
@runs_option
@json_option
def command(a: str, b: str, by: str, alpha: float, output_dir: Path, as_json: bool) -> None:
    """Say where run B is better or worse than run A, beyond chance, and where they are tied.

    Exit code 5 when the runs can't be compared: other task version, data, samples or judge.
    """
    runs = find_run(a, output_dir), find_run(b, output_dir)
    comparison = compare(*runs, by=by, alpha=alpha)
    if as_json:
        print_json(comparison.to_json())
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    click.echo(f"A {comparison.a}\nB {comparison.b}")
    header = ("task", comparison.by, "metric", *NUMBERS, "B is")
    print_table(header, [_cells(row) for row in comparison.rows], NUMBERS)
    click.echo(f"{comparison.family} tests, p corrected after Holm, alpha {comparison.alpha:g}")
    for note in comparison.notes:
        click.echo(note)


def _cells(row: Difference) -> tuple[str, ...]:
    interval = "-" if row.ci_low is None else f"[{number(row.ci_low)}, {number(row.ci_high)}]"
    n = f"{row.n_pairs} pairs" if row.n_pairs else f"{row.n_a} | {row.n_b}"
    scores = (number(row.a), number(row.b), number(row.difference), interval, n, number(row.p_holm))
    return (row.task, row.cell or "all", row.metric, *scores, row.outcome)
