"""`lmmsae-eval testbed build|card`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import click

from ..errors import UsageError
from ..harness.progress import Progress, progress_for
from .options import json_option, print_json, progress_option
from .table import print_table


@click.group("testbed")
def command() -> None:
    """The embedded default: a small real LMM, its world of labelled images, its questions."""


@command.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the weights go.  [default: into the package, replacing its own]",
)
@progress_option
def build(out: Path | None, progress: Literal["auto", "rich", "plain", "none"]) -> None:
    """Train the testbed's models from nothing (two CPU cores: under an hour)."""
    from ..harness.writing import clear_errors
    from ..testbed.build import build as build_testbed
    from ..testbed.provider import WEIGHTS

    folder = out or WEIGHTS
    with clear_errors(folder):
        # An hour later is too late to learn that nothing can be written there.
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    with Stages(progress_for(progress)) as stages:
        build_testbed(folder, said=stages)
    click.echo(folder)


class Stages(ExitStack):
    """The recipe's stages as steps of a progress display, one after the other."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._stage = ""
        self._done = 0

    def __call__(self, stage: str, step: int, steps: int, loss: float) -> None:
        if stage != self._stage:
            self.close()
            self._step = self.enter_context(self._progress.step(stage, steps))
            self._stage, self._done = stage, 0
        self._step.advance(step - self._done)
        self._done = step


@command.command()
@json_option
def card(as_json: bool) -> None:
    """What the models are, how they were trained, what they can't do, and held-out figures."""
    from ..testbed.provider import WEIGHTS

    try:
        figures = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))
    except OSError as error:
        message = "the testbed's weights are missing; run `lmmsae-eval testbed build`"
        raise UsageError(message) from error
    if as_json:
        print_json(figures)
    else:
        click.echo(WEIGHTS.with_name("CARD.md").read_text(encoding="utf-8"))
        print_table(("figure", "value"), list(_flat(figures)))


def _flat(figures: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested figures as (name, value) rows."""
    if isinstance(figures, Mapping):
        for key, value in figures.items():
            yield from _flat(value, f"{name}: {key}" if name else key)
    elif isinstance(figures, list):
        for place, value in enumerate(figures, 1):
            yield from _flat(value, f"{name} {place}")
    else:
        yield name, f"{figures:.4g}" if isinstance(figures, float) else str(figures)
