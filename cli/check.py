"""`lmmsae-eval check RUN`: the gate."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from pathlib import Path

import click

from ..harness.baseline import BASELINE, Baseline, load_baseline, require_complete
from ..harness.gate import Gate, Verdict, check
from ..harness.rules import Allowed, OnMissing, Rules
from ..harness.snapshot import snapshot
from ..reports.table import number, p_text
from .find import find_run
from .github import report_to_github
from .options import FiniteRange, choice, json_option, print_json, probability, runs_option
from .table import print_table

HEADER = ("task", "layer", "metric", "baseline", "now", "change", "interval", "p", "verdict")
NUMBERS = ("baseline", "now", "change", "interval", "p")


def _pairs(ctx: click.Context, param: click.Parameter, values: Iterable[str]) -> dict[str, str]:
    """`iou=0.01,halluc=5%`, repeatable."""
    found = {}
    for item in (item.strip() for value in values for item in value.split(",") if item.strip()):
        name, equals, amount = item.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(f"{item!r} is not METRIC=NUMBER", ctx, param)
        found[name] = amount
    return found


def _number(ctx: click.Context, param: click.Parameter, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number", ctx, param) from None
    if not isfinite(value):
        raise click.BadParameter(f"{text!r} is not finite", ctx, param)
    return value


def _drops(ctx: click.Context, param: click.Parameter, values: Iterable[str]) -> dict[str, Allowed]:
    return {name: _drop(ctx, param, text) for name, text in _pairs(ctx, param, values).items()}


def _drop(ctx: click.Context, param: click.Parameter, text: str) -> Allowed:
    relative = text.endswith("%")
    amount = _number(ctx, param, text.removesuffix("%"))
    if amount < 0:
        raise click.BadParameter(f"{text!r} is below 0; write how far it may drop", ctx, param)
    return Allowed(amount / 100 if relative else amount, relative)


def _floors(ctx: click.Context, param: click.Parameter, values: Iterable[str]) -> dict[str, float]:
    return {name: _number(ctx, param, text) for name, text in _pairs(ctx, param, values).items()}


@click.command("check")
@click.argument("ref", metavar="RUN")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help=f"A blessed file, or a run's folder.  [default: {BASELINE}]",
)
@click.option(
    "--max-drop",
    multiple=True,
    callback=_drops,
    metavar="METRIC=V",
    help="How far these may drop: iou=0.01, iou_top=5%; a task's name means its headline metrics. "
    "Only they are gated then.  [default: all headline metrics, by 0]",
)
@click.option(
    "--min",
    "minimum",
    multiple=True,
    callback=_floors,
    metavar="METRIC=V",
    help="The least value, whatever the baseline's.",
)
@click.option(
    "--min-coverage",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="The least share of samples with a score.",
)
@choice(
    "--on-missing",
    among=("fail", "warn", "ignore"),
    help="For a number that the baseline has and the run lacks.",
)
@probability("--alpha", 0.05, help="Chance of any false alarm in the whole gate, at most (Holm).")
@runs_option
@json_option
def command(
    ref: str,
    baseline: Path | None,
    max_drop: dict[str, Allowed],
    minimum: dict[str, float],
    min_coverage: float,
    on_missing: OnMissing,
    alpha: float,
    output_dir: Path,
    as_json: bool,
) -> None:
    """The CI gate: exit code 4 when RUN is worse than the baseline, beyond what is allowed and
    beyond chance.

    Exit code 5 when the two can't be compared: other task version, data, samples, model or judge.
    In GitHub Actions it also annotates, and writes the step's summary.
    """
    run = find_run(ref, output_dir)
    require_complete(run)
    against = _baseline(baseline, bool(minimum) and not max_drop)
    rules = Rules(max_drop, minimum, min_coverage, on_missing, alpha)
    gate = check(snapshot(run), against.snapshot if against else None, rules)
    if as_json:
        print_json(gate.to_json())
    else:
        _print(gate, against)
    report_to_github(gate)
    gate.raise_if_failed()


def _baseline(path: Path | None, optional: bool) -> Baseline | None:
    """Floors alone need none; a baseline that was named, or is where it should be, is used."""
    if path is None and optional and not BASELINE.exists():
        return None
    return load_baseline(path or BASELINE)


def _print(gate: Gate, against: Baseline | None) -> None:
    if against and against.reason:
        click.echo(f"baseline {against.snapshot.run_id}, {against.blessed}: {against.reason}")
    if gate.verdicts:
        print_table(HEADER, [row(verdict) for verdict in gate.verdicts], NUMBERS)
    for note in gate.notes:
        click.echo(note)
    if not gate.failed:
        click.echo(gate.summary)


def row(verdict: Verdict) -> tuple[str, ...]:
    """One number's cells, after `HEADER`."""
    moved, interval = verdict.change, "-"
    if moved and moved.low is not None and moved.high is not None:
        interval = f"[{number(moved.low)}, {number(moved.high)}]"
    return (
        verdict.task,
        str(verdict.layer or "all"),
        verdict.metric,
        number(verdict.baseline),
        number(verdict.now),
        number(moved.value if moved else None),
        interval,
        p_text(verdict.p_holm),
        verdict.word,
    )
