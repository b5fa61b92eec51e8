"""The subject of a run: a model, its SAEs, and an untrained control beside each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore, cache_root
from ..harness.chat import ChatClient
from ..harness.progress import Progress
from ..harness.registry import TESTBEDS
from .controls import with_controls
from .request import DEFAULT_WORLD, Layer, Request
from .subject import Provider, Subject

if TYPE_CHECKING:
    from ..sae.lmm import LMM
    from ..sae.topk import TrainedSae


def open_subject(request: Request, client: ChatClient | None, progress: Progress) -> Subject:
    """Load the model, load or train its SAEs, and put an untrained control beside each."""
    embedded = request.model in TESTBEDS.names()
    if not embedded and not request.saes and not request.layers:
        raise UsageError(
            f"only a testbed brings layers to train SAEs at; give --sae or --layers for "
            f"{request.model}"
        )
    provider: Provider = TESTBEDS.get(request.model if embedded else DEFAULT_WORLD)()
    # An embedded model is loaded in one way: where another is asked for, load_lmm refuses.
    plain = embedded and not request.loading
    lmm = provider.load_lmm() if plain else _load_lmm(request.model, request.loading)
    if request.saes:
        trained = load_saes(lmm, request.saes, request.layers)
    else:
        trained = default_saes(lmm, provider, request.layers, progress)
    subject = Subject(
        lmm=lmm,
        saes=trained,
        provider=provider,
        seed=request.seed,
        judge_ref=None if client is None else request.judge,
        make_judge=None if client is None else lambda: client,
    )
    return with_controls(subject, ArtefactStore(cache_root()))


def _load_lmm(ref: str, loading: Mapping[str, Any]) -> LMM:
    from ..sae.load import load_lmm

    return load_lmm(ref, **loading)


def load_saes(
    lmm: LMM, refs: Sequence[str | Path], layers: Sequence[Layer] = ()
) -> list[TrainedSae]:
    """SAEs from folders or the hub, in any layout, those at `layers` alone if any are given."""
    from ..sae.formats import bind_saes, load_sae

    wanted = [lmm.hookpoint(layer) for layer in layers]
    names = _names(refs)
    everything = [
        sae
        for ref, name in zip(refs, names, strict=True)
        for sae in bind_saes(lmm, load_sae(ref), name)
    ]
    chosen = [sae for sae in everything if not wanted or sae.hookpoint in wanted]
    for hookpoint in wanted:
        if all(sae.hookpoint != hookpoint for sae in chosen):
            there = ", ".join(dict.fromkeys(str(sae.hookpoint) for sae in everything))
            raise UsageError(f"no SAE at {hookpoint}; the given ones are at {there}")
    return chosen


def _names(refs: Iterable[str | Path]) -> list[str]:
    """Folder names, with as much of the path as tells them apart."""
    paths = [Path(ref).expanduser().resolve() for ref in refs]
    if len(set(paths)) < len(paths):
        raise UsageError("the same SAE folder is given twice; give each once")
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return ["/".join(path.parts[-length:]) for path in paths]


def default_saes(
    lmm: LMM, provider: Provider, layers: Sequence[Layer], progress: Progress
) -> list[TrainedSae]:
    """The built-in trainer's SAEs at `layers`, from the cache or trained now, all in one go."""
    from . import training

    hookpoints = [lmm.hookpoint(layer) for layer in layers or provider.default_hookpoints]
    distinct = list(dict.fromkeys(hookpoints))
    store = ArtefactStore(cache_root())
    return training.trained_saes(lmm, provider, distinct, store, progress, training.RECIPE)
