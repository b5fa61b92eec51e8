"""`lmmsae-eval tasks lock`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from ..harness.lock import LOCK, drift, read_lock, renew


@click.group("tasks")
def command() -> None:
    """Versions of tasks, for those who write them; `lmmsae-eval ls tasks` lists what there is."""


@command.command("lock")
@click.argument("names", nargs=-1, metavar="[TASK]...")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=LOCK,
    show_default=True,
    help="The lock; commit it.",
)
@click.option("--check", is_flag=True, help="Write nothing; fail when a task moved.")
@click.option("--same-scores", is_flag=True, help="Keep the version: no score can have changed.")
def lock(names: tuple[str, ...], file: Path, check: bool, same_scores: bool) -> None:
    """Tie each task's version to its source (default: the built-in tasks)."""
    from ..harness.registry import TASKS

    chosen = names or [name for name in TASKS.names() if "/" not in name]
    tasks = {name: TASKS.get(name) for name in chosen}
    if check:
        if moved := drift(tasks, read_lock(file), some=bool(names)):
            raise UsageError("; ".join(moved))
        click.echo(f"{file}: {len(tasks)} tasks as locked")
    else:
        renewed = renew(tasks, file, same_scores=same_scores, some=bool(names))
        click.echo(f"{file}: {', '.join(renewed) or 'nothing moved'}")
