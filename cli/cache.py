"""`lmmsae-eval cache ls|path|prune|clear`."""

from __future__ import annotations

from pathlib import Path

import click

from ..harness.artefacts import Artefact, ArtefactStore, cache_root
from .options import FiniteRange, json_option, print_json
from .table import print_table

SECONDS_A_DAY = 24 * 3600.0

kind_option = click.option("--kind", metavar="KIND", help="Only these, as `cache ls` names them.")


@click.group("cache")
def command() -> None:
    """What was expensive and is kept by content: SAEs, exemplars, explanations. Never needed."""


@command.command("path")
@json_option
def path(as_json: bool) -> None:
    """Where it is; $LMMSAE_EVAL_CACHE moves it."""
    if as_json:
        print_json({"path": str(cache_root())})
    else:
        click.echo(cache_root())


@command.command("ls")
@kind_option
@json_option
def ls(kind: str | None, as_json: bool) -> None:
    """What is kept, with size and last use, the oldest first."""
    everything = _chosen(kind, 0.0)
    found = [artefact for artefact in everything if artefact.key is not None]
    for artefact in everything:
        if artefact.key is None:
            click.echo(f"damaged: {artefact.path}; `cache clear` removes it", err=True)
    if as_json:
        print_json([_document(artefact) for artefact in found])
        return
    rows = [
        (a.kind, a.path.name[:12], f"{a.size / 1e6:.1f} MB", f"{a.idle / SECONDS_A_DAY:.1f} days")
        for a in found
    ]
    if rows:
        print_table(("kind", "key", "size", "unused for"), rows, ("size", "unused for"))
    click.echo(f"{len(found)} things, {sum(a.size for a in found) / 1e6:.1f} MB", err=True)


@command.command("prune")
@click.option(
    "--older-than",
    type=FiniteRange(min=0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Remove what nothing has used for so long.",
)
@kind_option
def prune(older_than: float, kind: str | None) -> None:
    """Remove what has not been used for some time."""
    _remove(_chosen(kind, older_than * SECONDS_A_DAY))


@command.command("clear")
@kind_option
@click.confirmation_option("--yes", prompt="Remove all that is kept?")
def clear(kind: str | None) -> None:
    """Remove everything; it is made again when it is needed."""
    _remove(_chosen(kind, 0.0))


def _chosen(kind: str | None, idle: float) -> list[Artefact]:
    everything = sorted(ArtefactStore(cache_root()).everything(), key=lambda a: -a.idle)
    return [a for a in everything if kind in (None, a.kind) and a.idle >= idle]


def _remove(artefacts: list[Artefact]) -> None:
    size = sum(artefact.size for artefact in artefacts)
    for artefact in artefacts:
        artefact.remove()
    click.echo(f"removed {len(artefacts)} things, {size / 1e6:.1f} MB")


def _document(artefact: Artefact) -> dict[str, object]:
    return {
        "kind": artefact.kind,
        "key": dict(artefact.key or {}),
        "path": str(Path(artefact.path)),
        "bytes": artefact.size,
        "idle_seconds": round(artefact.idle, 1),
    }
