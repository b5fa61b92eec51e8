"""A command's plan without the command: what would be done, and about what it would take."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore, cache_root
from ..harness.budget import Price
from ..harness.forecast import Forecast, Wanted, forecast
from ..harness.kept_replies import KeptReplies
from ..harness.registry import TESTBEDS
from ..harness.rundir import list_runs
from .features.image_sets.rows import DATASET
from .request import DEFAULT_WORLD, Request, chosen_tasks, needs_judge


def dry_run(
    request: Request,
    output_dir: str | Path = "runs",
    price: Price | None = None,
    repeats: int = 1,
    *,
    reply_cache: bool = True,
) -> Forecast:
    """What `run` would do, estimated from the runs in `output_dir`. Loads no model, asks nobody,
    writes nothing. Raises `UsageError` for what can be refused without loading.
    """
    tasks = chosen_tasks(request)
    _check_places(request)
    wanted = Wanted(
        config=request.document(),
        protocol=request.protocol,
        seed=request.seed,
        limit=request.limit,
        samples=request.samples,
        n_saes=_how_many(request),
        asks_judge=needs_judge(request, tasks) and not str(request.judge).startswith("replay:"),
        kept=partial(_kept, request.judge) if reply_cache else None,
    )
    runs = list_runs(Path(output_dir))
    return forecast([task.spec for task in tasks], wanted, runs, price, repeats)


def _kept(judge: str | None, entry: Mapping[str, Any]) -> bool:
    kept = KeptReplies(ArtefactStore(cache_root()))
    return kept.find({**entry, "requested": judge}) is not None


def _how_many(request: Request) -> int | None:
    """SAEs over all hookpoints, as far as folders tell: those of the hub are not looked at."""
    if not request.saes:
        named = request.model if request.model in TESTBEDS.names() else DEFAULT_WORLD
        return len(request.layers or TESTBEDS.get(named)().default_hookpoints)
    if request.layers:
        return len(request.saes) * len(request.layers)
    found = [len(list(Path(ref).expanduser().rglob("cfg.json"))) for ref in request.saes]
    return sum(found) if all(found) else None


def _check_places(request: Request) -> None:
    """Folders that are neither there nor the id of something on the hub."""
    from ..sae.formats.hub import parse

    for ref in request.saes:
        if not Path(ref).expanduser().exists() and parse(str(ref)) is None:
            raise UsageError(f"no SAE folder at {ref}; check the path, or give a hub id")
    own = request.image_set
    if own is not None and not own.startswith(DATASET) and not Path(own).expanduser().is_dir():
        raise UsageError(f"no folder of pictures at {own}; a hub id is written {DATASET}owner/name")
    embedded = request.model in TESTBEDS.names()
    if not embedded and not Path(request.model).expanduser().exists() and "/" not in request.model:
        raise UsageError(f"no model folder at {request.model}; give a folder, or a hub id")
