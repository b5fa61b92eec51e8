"""Activations as the paper's code cached them, read unchanged.

Layout: `<folder>/<hookpoint>/<first>_<last>.safetensors`, one file a range of latents (before ranks
were merged, `Rank<r>_<first>_<last>`), with `locations` int64 `(n, 3)` of image, position, latent
and `activations` `(n,)`. Position 0 is the first image token: BOS was cut off. 0 to 575 are the
base view's 24 x 24 grid, then come tiles and newlines. Values up to 1e-5 were left out.

The code that wrote them lost the last latent of every file: it took latents below `last`, which is
the range's last one already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UsageError
from .formats.names import in_order, published
from .progress import Progress

_NAME = re.compile(r"(?:Rank\d+_)?(\d+)_(\d+)\.safetensors")
_NAMED = 8
"""Lost latents that the warning names one by one."""


class Firings(NamedTuple):
    """Where latents fired, and how strongly; n of them."""

    images: Tensor
    """`(n,)` int64: row of the image set."""
    positions: Tensor
    """`(n,)` int64: 0 is the first image token."""
    latents: Tensor
    """`(n,)` int64."""
    values: Tensor
    """`(n,)` float."""


@dataclass(frozen=True)
class PublishedCache:
    """The files of one hookpoint."""

    hookpoint: str
    """`model.layers.24`."""
    files: Mapping[range, Sequence[Path]]
    """By the latents that a file is of, in order; several files where ranks were not merged."""

    @property
    def edges(self) -> list[int]:
        """The latents that the writer lost, unless their files do hold some."""
        return [latents[-1] for latents in self.files]

    def firings(self, latents: range) -> Firings:
        """All firings in one of the ranges of `files`. Raises `UsageError` for a damaged file."""
        parts = [_read(path, latents) for path in self.files[latents]]
        return Firings(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def of(self, latent: int) -> Firings:
        """Where one latent fired: its whole file is read.

        Raises `UsageError` for a latent that no file is of, and for one that the writer lost:
        nobody knows where that one fired.
        """
        within = next((latents for latents in self.files if latent in latents), None)
        if within is None:
            raise UsageError(f"no file of the cache of {self.hookpoint} holds latent {latent}")
        everything = self.firings(within)
        chosen = everything.latents == latent
        if latent == within[-1] and not chosen.any():
            raise UsageError(
                f"latent {latent} of {self.hookpoint} is the last of its file, which the code that "
                "wrote this cache lost: cache it again to know where it fires"
            )
        return Firings(*(tensor[chosen] for tensor in everything))


def published_caches(folder: Path, progress: Progress) -> list[PublishedCache]:
    """Every hookpoint's cache below `folder`, or the one that `folder` is, in order of layers.

    Says which latents the writer lost. Raises `UsageError` where there is none.
    """
    folders = [folder] if _files(folder) else sorted(p for p in folder.glob("*") if p.is_dir())
    found = [(p.name, _files(p)) for p in sorted(folders, key=lambda p: in_order(p.name))]
    caches = [PublishedCache(published(name), files) for name, files in found if files]
    if not caches:
        raise UsageError(
            f"no activation cache in {folder}; it should hold HOOKPOINT/FIRST_LAST.safetensors"
        )
    for cache in caches:
        progress.say(_warning(cache))
    return caches


def read_filter(path: Path) -> dict[str, list[int]]:
    """A filter of the paper's code: which latents of each hookpoint are looked at.

    Raises `UsageError` for anything but a JSON object of lists of whole numbers.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read a filter from {path}: {error}") from error
    if not isinstance(document, dict) or not all(map(_is_latents, document.values())):
        raise UsageError(f"{path} is no filter; it should be {{'model.layers.24': [0, 1, ...]}}")
    return {published(name): list(latents) for name, latents in document.items()}


def _is_latents(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _warning(cache: PublishedCache) -> str:
    edges = cache.edges
    named = ", ".join(map(str, edges[:_NAMED])) + (", ..." if len(edges) > _NAMED else "")
    return (
        f"{cache.hookpoint}: the code that wrote this cache lost the last latent of each file; "
        f"nothing is known of {len(edges)} latents ({named})"
    )


def _files(folder: Path) -> dict[range, list[Path]]:
    files: dict[range, list[Path]] = {}
    for path in sorted(folder.glob("*_*.safetensors")):
        if match := _NAME.fullmatch(path.name):
            latents = range(int(match[1]), int(match[2]) + 1)
            files.setdefault(latents, []).append(path)
    return dict(sorted(files.items(), key=lambda item: item[0].start))


def _read(path: Path, latents: range) -> Firings:
    try:
        tensors = load_file(path)
        locations, values = tensors["locations"], tensors["activations"]
    except (OSError, SafetensorError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"can't read cached activations from {path}: {reason}") from error
    if locations.dtype != torch.int64 or locations.shape != (len(values), 3) or values.ndim != 1:
        raise UsageError(f"{path}: locations are not (image, position, latent) of each activation")
    images, positions, which = locations.unbind(1)
    outside = (
        len(which) and not latents.start <= int(which.min()) <= int(which.max()) < latents.stop
    )
    if outside or not torch.isfinite(values).all():
        raise UsageError(f"{path} holds other latents than its name says, NaN or infinity")
    return Firings(images, positions, which, values)
