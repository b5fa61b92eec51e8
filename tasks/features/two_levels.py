"""Intervals for scores of images within latents, and layers compared at one mix of concepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...harness.statistics import Interval
from .tables import Cell, cells, row, scored

if TYPE_CHECKING:
    from ...harness.task import Line, MetricRow

Values = npt.NDArray[np.float64]
Groups = Mapping[str, Sequence[Values]]
"""By concept the latents of a layer, each with the scores of its images."""

RESAMPLES = 2000
METHOD = "two-level bootstrap: latents, then their images (percentile)"
LEAST = 2
"""Latents of a concept that every layer must have, for the concept to be in the common mix."""
MIXED_ARMS = ("main", "hard_shuffled", "untrained")
"""Arms whose layers are compared at one mix of concepts."""
_CHUNK = 2_000_000


def images_of(lines: Sequence[Line]) -> list[Values]:
    """Per latent the scores of its images, those without one left out."""
    found = []
    for line in lines:
        known = [value for value in line["detail"].get("each", ()) if value is not None]
        found.append(np.array(known, float))
    return found


def of_images(lines: Sequence[Line]) -> Interval:
    """Not of the paper's random images: what those keep are means of ten runs."""
    return two_level_interval(images_of([o for o in lines if o["arm"] != "random_images"]))


def two_level_interval(latents: Sequence[Values], seed: int = 0) -> Interval:
    """The mean over latents of the mean over their images; both are drawn with replacement."""
    latents = [values for values in latents if len(values)]
    if not latents:
        return Interval(None, None, None, None, 0, 0)
    value = float(np.mean([values.mean() for values in latents]))
    bare = Interval(value, None, None, None, len(latents), len(latents))
    draws = _draws(latents, seed)
    return _bounded(bare, draws) if len(latents) > 1 else bare


def _bounded(bare: Interval, draws: Values) -> Interval:
    if draws.min() == draws.max():
        return bare
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(bare.value, float(low), float(high), METHOD, bare.n, bare.n_clusters)


def _draws(latents: Sequence[Values], seed: int) -> Values:
    """`(RESAMPLES,)` means."""
    rng = np.random.default_rng([seed, len(latents)])
    sizes = np.array([len(values) for values in latents])
    table = np.zeros((len(latents), sizes.max()))
    for place, values in zip(table, latents, strict=True):
        place[: len(values)] = values
    step = max(1, _CHUNK // table.size)
    parts = [
        _some_draws(table, sizes, min(step, RESAMPLES - start), rng)
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(parts)


def _some_draws(
    table: Values, sizes: npt.NDArray[np.int64], n: int, rng: np.random.Generator
) -> Values:
    chosen = rng.integers(0, len(table), (n, len(table)))
    counts = sizes[chosen]
    at = (rng.random((n, *table.shape)) * counts[..., None]).astype(np.int64)
    drawn = table[chosen[..., None], at]
    used = np.arange(table.shape[1]) < counts[..., None]
    return np.asarray(((drawn * used).sum(2) / counts).mean(1))


def common_mix_rows(lines: Sequence[Line], score: str, arms: Sequence[str]) -> Iterator[MetricRow]:
    """Each layer's mean as it would be with the concepts of all layers' `main`: `<score>_mix`.

    Layers, SAEs and controls differ in how many scenes or colours they have; without this a layer
    would be better for having more of an easy concept. Only concepts that all have are in the mix.
    """
    layers = [cell for cell in cells(lines) if cell.hookpoint and not cell.concept]
    found = [(cell, arm, _by_concept(cell, arm, score)) for arm in arms for cell in layers]
    found = [(cell, arm, groups) for cell, arm, groups in found if groups]
    weights = _mix([g for _, arm, g in found if arm == "main"], [g for _, _, g in found])
    note = f"mix of {', '.join(f'{c} {w:.2f}' for c, w in weights.items())}"
    for cell, arm, groups in found if weights else ():
        interval = _stratified(groups, weights)
        n = sum(len(groups[concept]) for concept in weights)
        yield row(
            f"{score}_mix", interval, cell, arm, n, len(cell.arm(arm)),
            note=None if interval.insufficient else note,
        )  # fmt: skip


def _by_concept(cell: Cell, arm: str, score: str) -> dict[str, list[Values]]:
    groups: dict[str, list[Line]] = {}
    for line in scored(cell.arm(arm), score):
        if line["concept"]:
            groups.setdefault(line["concept"], []).append(line)
    images = {concept: images_of(members) for concept, members in sorted(groups.items())}
    return {concept: [one for one in found if len(one)] for concept, found in images.items()}


def _mix(main: Sequence[Groups], everywhere: Sequence[Groups]) -> dict[str, float]:
    """Shares in `main`, all layers together, of the concepts that are everywhere."""
    if not main:
        return {}
    shared = [c for c in main[0] if all(len(groups.get(c, ())) >= LEAST for groups in everywhere)]
    counts = {c: sum(len(groups[c]) for groups in main) for c in shared}
    total = sum(counts.values())
    return {concept: n / total for concept, n in counts.items()}


def _stratified(groups: Mapping[str, Sequence[Values]], weights: Mapping[str, float]) -> Interval:
    value, draws, n = 0.0, np.zeros(RESAMPLES), 0
    for seed, (concept, weight) in enumerate(weights.items()):
        value += weight * float(np.mean([images.mean() for images in groups[concept]]))
        draws += weight * _draws(groups[concept], seed)
        n += len(groups[concept])
    return _bounded(Interval(value, None, None, None, n, n), draws)
