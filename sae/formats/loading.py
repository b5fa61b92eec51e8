"""From a reference to SAEs: a folder, a file or a hub id, of whatever family it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...errors import UsageError
from ..lmm import LMM
from ..sae import SAE, TrainedSae
from . import dictionary_learning, openai, peft, saelens, sparsify
from .family import Family, Stored
from .hub import downloaded, parse
from .names import in_order, same

FAMILIES = (
    sparsify.FAMILY,
    saelens.FAMILY,
    dictionary_learning.FAMILY,
    peft.FAMILY,
    openai.FAMILY,
)


class Place(NamedTuple):
    """Where SAEs lie, and who wrote them."""

    family: Family
    path: Path


def load_sae(ref: str | Path, hookpoint: str | None = None) -> list[tuple[str, SAE]]:
    """`(hookpoint name, SAE)` of every SAE at a reference, or of the one at `hookpoint`, in
    float32, layers in order.

    The reference is a folder that is one SAE or holds one a child folder, a torch file, or a hub id
    `owner/name[/folder][@revision]`. The family (sparsify, SAELens, dictionary_learning, PEFT,
    openai) is told from its files. Raises `UsageError` in one line for whatever is missing or
    doesn't fit.
    """
    loaded = stored_at(ref)
    chosen = [one for one in loaded if hookpoint is None or same(one.hookpoint, hookpoint)]
    if not chosen:
        known = ", ".join(one.hookpoint for one in loaded)
        raise UsageError(f"{ref} holds no SAE for {hookpoint}; it has {known}")
    return [(one.hookpoint, one.sae) for one in chosen]


def stored_at(ref: str | Path) -> list[Stored]:
    """Every SAE at a reference with what its checkpoint says of it. Raises `UsageError`, also for
    two at one hookpoint, as a sweep leaves them.
    """
    found: dict[str, Stored] = {}
    for family, path in places_at(local(ref), ref):
        for one in family.read(path):
            if one.hookpoint in found:
                raise UsageError(
                    f"{ref} holds more than one SAE for {one.hookpoint}; give the folder of one, "
                    f"such as {path}"
                )
            found[one.hookpoint] = one
    return sorted(found.values(), key=lambda one: in_order(one.hookpoint))


def local(ref: str | Path) -> Path:
    """The path of a reference; what no path has, and looks like a hub id, is downloaded."""
    path = Path(ref).expanduser()
    if path.exists():
        return path
    hub_ref = parse(str(ref))
    if hub_ref is None:
        raise UsageError(
            f"no SAE folder at {ref}; train one with `lmmsae-eval train`, check the path, or give "
            "a hub id owner/name[/folder][@revision]"
        )
    return downloaded(hub_ref)


def places_at(path: Path, ref: str | Path) -> list[Place]:
    """Every place with an SAE under `path`, by what lies there; `ref` is for messages."""
    if path.is_file():
        return [_file(path)]
    places = [Place(family, place) for family in FAMILIES for place in family.find(path)]
    if not places:
        raise UsageError(
            f"{ref} holds no SAE: neither it nor a folder in it has cfg.json (sparsify), "
            "sae_weights.safetensors (SAELens), ae.pt (dictionary_learning) or "
            "adapter_config.json (PEFT)"
        )
    return places


def saes_below(folder: Path) -> list[tuple[Path, Stored]]:
    """Every SAE at any depth under a folder, with its place, of the families without a cfg.json,
    which tell their shape by their weights alone. Raises `UsageError` for one that doesn't load.
    """
    places = {
        place
        for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir()))
        for place in _find_without_cfg(inner)
    }
    return [(p.path, one) for p in sorted(places, key=str) for one in p.family.read(p.path)]


def _find_without_cfg(folder: Path) -> list[Place]:
    """In the folder itself; openai's files are told from their content."""
    families = (dictionary_learning.FAMILY, peft.FAMILY)
    places = [Place(f, p) for f in families for p in f.find(folder) if p == folder]
    files = [file for file in folder.glob("*.pt") if not places and openai.is_openai(file)]
    return places + [Place(openai.FAMILY, file) for file in files]


def _file(path: Path) -> Place:
    if path.suffix not in (".pt", ".pth"):
        raise UsageError(f"{path} is a file; give the folder that it is in")
    if openai.is_openai(path):
        return Place(openai.FAMILY, path)
    return Place(dictionary_learning.FAMILY, path)


def bind_saes(lmm: LMM, saes: Iterable[tuple[str, SAE]], name: str) -> list[TrainedSae]:
    """Loaded SAEs at their hookpoints in `lmm`. Raises `UsageError` when a width or a depth doesn't
    fit.
    """
    bound = []
    for hookpoint, sae in saes:
        if sae.d_model != lmm.d_model:
            raise UsageError(
                f"the SAE for {hookpoint} reads d_model {sae.d_model} but {lmm.name} has "
                f"{lmm.d_model}; choose the SAE of this model"
            )
        bound.append(TrainedSae(name, lmm.hookpoint(hookpoint), sae))
    return bound
