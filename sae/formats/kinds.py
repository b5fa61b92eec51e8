"""SAEs of any architecture from their tensors, whatever layout those came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import UsageError
from ..architectures import ARCHITECTURES
from ..sae import SAE
from .tensors import checked_k, whole_number

OWN: Mapping[str, Mapping[str, str]] = {
    "topk": {},
    "batch_topk": {"threshold": ""},
    "matryoshka": {"threshold": ""},
    "jump_relu": {"threshold": "n"},
    "gated": {"r_mag": "n", "b_mag": "n"},
}
"""The tensors that an architecture adds to W_enc, b_enc, W_dec and b_dec, by field, with axes."""


def made(
    architecture: str, tensors: Mapping[str, Tensor], k: Any, path: Path, sizes: Any = None
) -> SAE:
    """Of checked `tensors` by field; `k` and `sizes` (of a matryoshka's dictionaries) are as a cfg
    at `path` has them. Raises `UsageError` for those that don't fit.
    """
    kind = ARCHITECTURES[architecture]
    n = len(tensors["b_enc"])
    unknown = kind.free_l0 and whole_number({"k": k}, "k", path) is None
    k = 0 if unknown else checked_k(k, n, path)
    added: dict[str, Any] = {}
    if "threshold" in OWN[architecture]:
        # What is not positive never fires, so a threshold below 0 is as good as 0.
        added["threshold"] = tensors["threshold"].clamp_min(0.0)
    if "sizes" in {field.name for field in fields(kind)}:
        added["sizes"] = _sizes(sizes, path)
    try:
        return kind(**{**tensors, **added}, k=k)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _sizes(value: Any, path: Path) -> tuple[int, ...]:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if not listed or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        raise UsageError(
            f"{path}: the dictionaries of a matryoshka are {value!r}, not whole numbers"
        )
    return tuple(value)


def own_of(sae: SAE) -> dict[str, Tensor]:
    """The tensors that its architecture adds."""
    return {name: getattr(sae, name) for name in OWN[sae.architecture]}


def sizes_of(sae: SAE) -> tuple[int, ...] | None:
    """How many latents each dictionary of a matryoshka has."""
    sizes: tuple[int, ...] | None = getattr(sae, "sizes", None)
    return sizes
