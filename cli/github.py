"""What GitHub Actions shows of a gate: annotations on the run, a table in the step's summary."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..harness.gate import Gate, Verdict
from ..harness.writing import clear_errors
from ..reports.table import number
from .table import printable

HEADER = ("task", "layer", "metric", "baseline", "now", "change", "verdict")


def report_to_github(gate: Gate) -> None:
    """Nothing outside of Actions. Annotations go to stderr, which Actions reads as well: stdout may
    be JSON."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in commands(gate):
            click.echo(line, err=True)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with clear_errors(Path(summary)), Path(summary).open("a", encoding="utf-8") as file:
            file.write(markdown(gate))


def commands(gate: Gate) -> list[str]:
    """Workflow commands: an error per problem, a warning per missing number that is let pass."""
    errors = [_command("error", verdict) for verdict in gate.failed]
    return errors + [_command("warning", v) for v in gate.verdicts if v.warnings]


def markdown(gate: Gate) -> str:
    """A heading with the verdict and a row per number."""
    rows = [HEADER, ("---",) * len(HEADER), *map(_cells, gate.verdicts)]
    table = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)
    return f"### lmmsae-eval: {_cell(gate.summary)}\n\n{table}\n"


def _cells(verdict: Verdict) -> tuple[str, ...]:
    word = f"**{verdict.word}**" if verdict.problems else verdict.word
    moved = verdict.change.value if verdict.change else None
    numbers = (verdict.baseline, verdict.now, moved)
    layer = str(verdict.layer or "all")
    return (verdict.task, layer, verdict.metric, *map(number, numbers), word)


def _cell(text: str) -> str:
    """Names come from a run's file: they must not end the cell, the line, or begin markup."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _command(kind: str, verdict: Verdict) -> str:
    layer = f" at layer {verdict.layer}" if verdict.layer else ""
    message = _escaped(f"{verdict.task} {verdict.metric}{layer} {verdict.word}")
    return f"::{kind} title=lmmsae-eval check::{message}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
