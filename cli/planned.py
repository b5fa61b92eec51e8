"""`run --dry-run`: the plan, printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import print_json
from .table import print_table

if TYPE_CHECKING:
    from ..harness.forecast import Forecast, TaskForecast

COLUMNS = ("task", "version", "protocol", "samples", "judge calls", "minutes", "USD", "as in")
NUMBERS = ("version", "samples", "judge calls", "minutes", "USD")


def print_plan(
    options: dict[str, Any],
    output_dir: Path,
    how: Mapping[str, Any],
    repeats: int,
    *,
    as_json: bool,
) -> None:
    """What `run` with these options, and `how` a judge is called, would do."""
    from ..harness.budget import BATCH_SHARE, Price
    from ..tasks.dryrun import dry_run
    from ..tasks.request import Request

    share = BATCH_SHARE if how["batch"] else 1
    price = Price(*(share * part for part in how["judge_price"])) if how["judge_price"] else None
    cached = bool(how["reply_cache"])
    found = dry_run(Request.of(**options), output_dir, price, repeats, reply_cache=cached)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


def _print(found: Forecast) -> None:
    print_table(COLUMNS, [_row(task) for task in found.tasks], NUMBERS)
    times = f", {found.repeats} repeats" if found.repeats > 1 else ""
    click.echo(
        f"in all{times}: {_whole(found.total('samples'))} samples, "
        f"{_whole(found.total('judge_calls'))} judge calls, "
        f"{_minutes(found.total('seconds'))} minutes, {_dollars(found.total('dollars'))} USD"
    )
    if found.known_run:
        what = "would be gone on with" if found.known_status == "partial" else "would be read"
        click.echo(f"{found.known_run} ({found.known_status}) is of these options: it {what}")
    if kept := sum(task.kept_replies for task in found.tasks):
        click.echo(f"{kept} further replies are kept by earlier runs, and are not asked for again")
    if any(task.assumed for task in found.tasks):
        click.echo(f"USD: no run has counted tokens; {_assumed()} a call are assumed, rather many")
    if any(task.source is None for task in found.tasks):
        click.echo(
            "unknown: no stored run of that task on this model; a run of all samples tells, once"
        )
    if any(task.scaled for task in found.tasks):
        click.echo("about: on other SAEs or layers, counted for as many SAEs as are wanted")
    click.echo("minutes leave out loading the model and training SAEs; nothing was written")


def _assumed() -> str:
    from ..harness.budget import ASSUMED_CALL

    return f"{ASSUMED_CALL['prompt_tokens']:,} + {ASSUMED_CALL['completion_tokens']} tokens"


def _row(task: TaskForecast) -> tuple[str, ...]:
    return (
        *(task.task, str(task.version), task.protocol),
        *(_whole(task.samples), _whole(task.judge_calls)),
        *(_minutes(task.seconds), _dollars(task.dollars), _source(task)),
    )


def _source(task: TaskForecast) -> str:
    return f"about {task.source}" if task.scaled else task.source or "-"


def _whole(count: float | None) -> str:
    return "unknown" if count is None else str(round(count))


def _minutes(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds / 60:.1f}"


def _dollars(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.2f}"
