"""A part of the samples that still has whole clusters and every control."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from .task import Sample

Limit = int | float


def limited(samples: Iterable[Sample], limit: Limit | None) -> list[Sample]:
    """The first `limit` clusters (below 1: that share) of every cell of SAE, hookpoint and arm.

    Cutting after N samples would leave out the controls and tear image families apart.
    """
    everything = list(samples)
    if limit is None:
        return everything
    kept = {cell: _first(clusters, limit) for cell, clusters in _clusters(everything).items()}
    return [sample for sample in everything if sample.cluster in kept[_cell(sample)]]


def selected(samples: Iterable[Sample], ids: Collection[str]) -> list[Sample]:
    """Those samples alone, in their own order; all where no id is named."""
    return [sample for sample in samples if not ids or sample.id in ids]


def _clusters(samples: Iterable[Sample]) -> dict[tuple[Any, ...], dict[str, None]]:
    """Clusters of each cell in order of appearance."""
    found: dict[tuple[Any, ...], dict[str, None]] = {}
    for sample in samples:
        found.setdefault(_cell(sample), {})[sample.cluster] = None
    return found


def _first(clusters: dict[str, None], limit: Limit) -> set[str]:
    count = math.ceil(limit * len(clusters)) if limit < 1 else int(limit)
    return set(list(clusters)[:count])


def _cell(sample: Sample) -> tuple[Any, ...]:
    return (sample.sae, sample.hookpoint, sample.arm)
