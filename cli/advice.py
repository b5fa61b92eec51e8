"""Advisories about a run, where its scores are shown."""

from __future__ import annotations

import click

from ..harness.advisories import advised
from ..harness.rundir import Run


def print_advisories(*runs: Run) -> None:
    """On stderr: stdout may be JSON."""
    for run in runs:
        for line in advised(run):
            click.echo(f"advisory: {line}", err=True)
