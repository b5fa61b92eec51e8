"""`lmmsae-eval compare A B...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .advice import print_advisories
from .find import find_part
from .options import (
    BY,
    FiniteRange,
    choice,
    json_option,
    print_json,
    probability,
    runs_option,
    split_commas,
)
from .table import print_table, printable

if TYPE_CHECKING:
    from ..harness.compare import Comparison

FORMATS = ("table", "md", "json")


@click.command("compare")
@click.argument("refs", nargs=-1, required=True, metavar="A B...")
@choice("--by", among=BY, help="One test per metric and this.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    callback=split_commas,
    metavar="LIST",
    help="Metrics to test, or all.  [default: the tasks' headline ones]",
)
@probability("--alpha", 0.05, help="Chance of a false finding, as corrected.")
@choice(
    "--correction",
    among=("holm", "bh", "none"),
    help="holm: any false finding in the table; bh: the share of false ones.",
)
@click.option(
    "--margin",
    type=FiniteRange(0, min_open=True),
    metavar="M",
    help="A difference that does not matter: 'tied' is then shown, not assumed.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Of bootstraps and permutations.",
)
@choice("--format", "form", among=FORMATS, help="md is fit for a pull request.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw scores over measured L0 (.png, .svg, .pdf).",
)
@runs_option
@json_option
def command(
    refs: tuple[str, ...],
    form: Literal["table", "md", "json"],
    plot: Path | None,
    output_dir: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Say where runs are better or worse than run A, beyond chance, and where they are tied.

    RUN:SAE is the part of one SAE of a run over several, by its name in `show`.

    Same samples are paired; latents of different SAEs are not. Exit code 5 when the runs can't be
    compared: other task version, protocol, data, samples or judge.
    """
    from ..harness.compare import compare
    from ..reports.comparison import render_markdown, save_l0_plot

    runs = [find_part(ref, output_dir) for ref in refs]
    print_advisories(*runs)
    comparison = compare(*runs, **options)
    if plot:
        save_l0_plot(comparison, plot)
    if as_json or form == "json":
        print_json(comparison.to_json())
    elif form == "md":
        click.echo(render_markdown(comparison))
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    from ..reports.comparison import (
        L0_COLUMNS,
        L0_NUMBERS,
        columns,
        l0_rows,
        letters,
        number_columns,
        small_print,
        table_rows,
    )

    for letter, run in letters(comparison).items():
        click.echo(f"{letter} {run}")
    print_table(columns(comparison), table_rows(comparison), number_columns(comparison))
    for line in small_print(comparison):
        click.echo(printable(line))
    if comparison.against_l0:
        click.echo()
        print_table(L0_COLUMNS, l0_rows(comparison), L0_NUMBERS)
