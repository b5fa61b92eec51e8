"""`lmmsae-eval ls tasks|runs|saes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import UsageError
from .options import SAES, json_option, print_json, runs_option
from .table import print_table

if TYPE_CHECKING:
    from ..harness.artefacts import Artefact


@click.command("ls")
@click.argument("what", type=click.Choice(["tasks", "runs", "saes"]))
@runs_option
@click.option(
    "--saes",
    "sae_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=SAES,
    show_default=True,
    help="Where trained SAEs are.",
)
@json_option
def command(
    what: Literal["tasks", "runs", "saes"], output_dir: Path, sae_dir: Path, as_json: bool
) -> None:
    """List tasks (plugins included), runs, or SAEs."""
    if what == "tasks":
        rows = _tasks()
    elif what == "runs":
        rows = _runs(output_dir)
    else:
        rows = _saes(sae_dir)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [[_cell(v) for v in row.values()] for row in rows])
    else:
        click.echo(f"no {what}", err=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, list) else str(value)


def _tasks() -> list[dict[str, Any]]:
    from ..harness.registry import TASKS

    specs = {name: task.spec for name, task in TASKS.available().items()}
    return [
        {
            "task": name,
            "version": spec.version,
            "protocols": list(spec.protocols),
            "description": spec.description,
        }
        for name, spec in specs.items()
    ]


def _runs(folder: Path) -> list[dict[str, Any]]:
    from ..harness.rundir import list_runs

    return [
        {
            "run": run.id,
            "status": run.status,
            "created": str(run.document.get("created", "")),
            "tasks": [task["name"] for task in run.tasks],
            "samples": sum(len(run.lines(task["name"])) for task in run.tasks)
            if run.status == "partial"  # its counts are made at the end
            else sum(counts["total"] for counts in run.document.get("counts", {}).values()),
        }
        for run in list_runs(folder)
    ]


def _saes(folder: Path) -> list[dict[str, Any]]:
    """Those in the folder, then those that `run` has trained for itself and keeps in the cache."""
    from ..harness.artefacts import ArtefactStore, cache_root

    mine = [_sae(file, file.parent.name) for file in sorted(folder.rglob("cfg.json"))]
    mine += _without_cfg(folder)
    kept = [artefact for artefact in ArtefactStore(cache_root()).ls() if artefact.kind == "sae"]
    return mine + [_sae(a.path / "cfg.json", _hookpoint(a)) for a in kept]


def _hookpoint(artefact: Artefact) -> str:
    """Of its key; an SAE that something else has kept may have another."""
    return str((artefact.key or {}).get("hookpoint", artefact.path.name))


def _without_cfg(folder: Path) -> list[dict[str, Any]]:
    """SAEs of families that have no cfg.json: these tell their shape by their weights alone."""
    from ..sae.formats import saes_below

    return [
        {
            "hookpoint": one.hookpoint,
            "architecture": one.sae.architecture,
            "latents": one.sae.n_latents,
            "k": one.sae.k or None,
            "d_model": one.sae.d_model,
            "folder": str(path),
        }
        for path, one in saes_below(folder)
    ]


def _sae(file: Path, hookpoint: str) -> dict[str, Any]:
    """From the cfg alone, sparsify's or SAELens': listing needs no weights."""
    try:
        cfg = json.loads(file.read_text(encoding="utf-8"))
        latents = cfg["d_sae"] if "d_sae" in cfg else cfg["num_latents"]
        told = (cfg.get("metadata") or {}).get("lmmsae_eval") or {}
        kind = told.get("architecture") or cfg.get("architecture") or cfg.get("activation", "topk")
        # Where the L0 is learned, a cfg of others names no k.
        free = kind in ("jump_relu", "jumprelu", "gated")
        k = (told.get("k") or cfg.get("k") or None) if told or free else round(cfg["k"])
        shape = {"latents": latents, "k": k, "d_model": cfg["d_in"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} is not the cfg of an SAE ({error}); mend or remove it") from error
    place = {"folder": str(file.parent)}
    return {"hookpoint": hookpoint, "architecture": kind} | shape | place
