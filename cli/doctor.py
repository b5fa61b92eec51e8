"""`lmmsae-eval doctor`."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

import click

from ..errors import UsageError
from .options import json_option, loading_of, loading_options, print_json

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
@click.option("-m", "--model", metavar="REF", help="Say whether this model will work.")
@click.option("--ask", is_flag=True, help="Load its weights too and ask it something.")
@loading_options
@json_option
def command(model: str | None, ask: bool, as_json: bool, **options: Any) -> None:
    """Say what is installed, which device is used, which keys are set (never their values).

    A model is looked at without its weights: its blocks, image tokens, chat template, memory.
    """
    loading = loading_of(options)
    if model is None and (ask or loading):
        raise UsageError("--ask and how to load are about a model; name one with --model")
    found: dict[str, Any] = {
        "packages": {name: _version(name) for name in PACKAGES},
        "device": _device(),
        "keys set": {name: bool(os.environ.get(name)) for name in KEYS},
        "plugins": sorted(e.name for g in GROUPS for e in entry_points(group=g)),
        "cache": _cache(),
    }
    if model is not None:
        from ..sae.examination import asked, examined

        answered = asked(model, **loading) if ask else {}
        found["model"] = {**examined(model, **loading), **answered}
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


def _print(found: dict[str, Any], indent: str = "") -> None:
    from .table import printable

    for title, value in found.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{title}")
            _print(value, indent + "  ")
        elif isinstance(value, list):
            click.echo("\n".join([indent + title, *(f"{indent}  {printable(v)}" for v in value)]))
        else:
            click.echo(f"{indent}{title:<18} {printable(_words(value))}".rstrip())


def _words(item: object) -> str:
    if item is None:
        return "-"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return str(item)
