"""`lmmsae-eval power RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .find import find_run
from .options import (
    BY,
    FiniteRange,
    choice,
    json_option,
    print_json,
    probability,
    runs_option,
)
from .table import print_table, printable

NUMBERS = ("clusters", "sd", "need, same items", "need, others", "sees, same items", "sees, others")


@click.command("power")
@click.argument("ref", metavar="RUN")
@click.option("--metric", required=True, metavar="NAME", help="A score of the run's samples.")
@click.option(
    "--difference",
    required=True,
    type=FiniteRange(0, min_open=True),
    metavar="D",
    help="The difference to find, in the metric's units.",
)
@choice("--by", among=BY)
@probability("--power", 0.8, help="Chance to find it.")
@probability("--alpha", 0.05, help="Of one two-sided test; divide it by the size of a family.")
@click.option(
    "--correlation",
    type=FiniteRange(-1, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Assumed between the two runs' scores of the same items.",
)
@runs_option
@json_option
def command(ref: str, output_dir: Path, as_json: bool, **options: Any) -> None:
    """Say how many latents or questions a difference needs, by the spread of a stored run."""
    from ..harness.power import power
    from ..reports.table import number

    plan = power(find_run(ref, output_dir), **options)
    if as_json:
        print_json(plan.to_json())
        return
    click.echo(
        f"{plan.run}: to find {plan.difference:g} with power {plan.power:g}, alpha {plan.alpha:g}"
    )
    rows = [
        (
            *(row.task, row.cell or "all", row.cluster, str(row.n_clusters), number(row.spread)),
            *(str(row.needed_paired), str(row.needed_unpaired)),
            *(number(row.detectable_paired), number(row.detectable_unpaired)),
        )
        for row in plan.rows
    ]
    print_table(("task", plan.by, "cluster", *NUMBERS), rows, NUMBERS)
    click.echo(
        f"need: clusters in common, or on each side; sees: what this run's clusters can show. "
        f"Same items: a correlation of {plan.correlation:g} is assumed"
    )
    if plan.left_out:
        click.echo(f"left out: {printable('; '.join(plan.left_out))}")
