"""`lmmsae-eval doctor`."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

import click

from .options import json_option, print_json

PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "openai",
    "torchvision",
    "open_clip_torch",
    "segment-anything",
    "groundingdino-py",
    "lm-eval",
    "ray",
    "datasets",
    "bitsandbytes",
    "wandb",
    "tensorboard",
)
KEYS = ("OPENAI_API_KEY",)
GROUPS = ("lmmsae_eval.tasks", "lmmsae_eval.testbeds")


@click.command("doctor")
@click.option("-m", "--model", metavar="REF", help="Also load this model and ask it something.")
@json_option
def command(model: str | None, as_json: bool) -> None:
    """Say what is installed, which device is used, which keys are set (never their values)."""
    found = {
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(),
        "keys set": {name: bool(os.environ.get(name)) for name in KEYS},
        "plugins": sorted(e.name for g in GROUPS for e in entry_points(group=g)),
        "cache": _cache(),
    }
    if model:
        found["model"] = _model(model)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "cpu cores": os.cpu_count(), "torch threads": torch.get_num_threads()}


def _cache() -> dict[str, Any]:
    from ..harness.artefacts import ArtefactStore, cache_root

    root = cache_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    return {
        "path": str(root),
        "writable": os.access(existing, os.W_OK),
        "artefacts": len(ArtefactStore(root).ls()),
        "free GB": round(shutil.disk_usage(existing).free / 1e9, 1),
    }


def _model(ref: str) -> dict[str, Any]:
    """Loads the model, finds its blocks, asks one question without a picture."""
    from ..sae.lmm import Prompt
    from ..sae.load import load_lmm

    lmm = load_lmm(ref)
    answer = lmm.generate(lmm.prepare([Prompt("is there a boat ?")]), max_new_tokens=4)
    first, last = lmm.hookpoint(1), lmm.hookpoint(lmm.n_layers)
    return {
        "name": lmm.name,
        "identity": lmm.identity,
        "layers": lmm.n_layers,
        "d_model": lmm.d_model,
        "first block": f"{first} at {first.module}",
        "last block": f"{last} at {last.module}",
        "answer": answer[0],
    }


def _print(found: dict[str, Any]) -> None:
    from .table import printable

    for title, value in found.items():
        click.echo(title)
        items = value.items() if isinstance(value, dict) else ((name, "") for name in value)
        for name, item in items:
            click.echo(f"  {name:<18} {printable(_words(item))}".rstrip())


def _words(item: object) -> str:
    if item is None:
        return "-"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return str(item)
