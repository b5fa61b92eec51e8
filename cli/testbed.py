"""`lmmsae-eval testbed build|card`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ..harness.progress import progress_for
from .options import progress_option


@click.group("testbed")
def command() -> None:
    """The embedded default: a small real LMM, its world of labelled images, its questions."""


@command.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("testbed-weights"),
    show_default=True,
    help="Where the weights go.",
)
@progress_option
def build(out: Path, progress: Literal["auto", "rich", "plain", "none"]) -> None:
    """Train the testbed's models from nothing (two CPU cores: under an hour)."""
    from ..testbed.build import build as build_testbed

    build_testbed(out, progress_for(progress))
    click.echo(out)


@command.command()
def card() -> None:
    """What the model is, how it was trained, how well it does, what it can't do."""
    from importlib.resources import files

    text = files("lmmsae_eval.testbed").joinpath("weights", "CARD.md").read_text(encoding="utf-8")
    click.echo(text.rstrip())
