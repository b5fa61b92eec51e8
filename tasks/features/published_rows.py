"""The paper's own numbers, as rows that say that they are not ours (arXiv 2411.14982, table 1).

LLaVA-NeXT-8B, an SAE of 131,072 latents at model.layers.24, 5,000 features, top 5 images: another
model and other images than a run's. They were made with the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...harness.task import MetricRow

NOTE = "reference: published, protocol released, another model and other images"
_CONCEPTS = ("scene", "object", "part", "material", "texture", "colour", None)
_MAIN: Mapping[str, tuple[float, ...]] = {
    "iou_search": (0.20, 0.19, 0.21, 0.39, 0.21, 0.10, 0.20),
    "clip": (24.4, 24.0, 23.5, 24.1, 20.9, 20.3, 23.6),
}
_RANDOM: Mapping[str, tuple[tuple[float, float], ...]] = {
    "iou_search": (
        (0.007, 0.001),
        (0.005, 0.0005),
        (0.007, 0.002),
        (0.01, 0.008),
        (0.007, 0.002),
        (0.005, 0.002),
        (0.005, 0.0002),
    ),
    "clip": (
        (18.1, 0.06),
        (18.2, 0.02),
        (18.1, 0.05),
        (18.1, 0.1),
        (18.4, 0.06),
        (19.6, 0.07),
        (18.2, 0.01),
    ),
}
_LAYERS: Mapping[str, tuple[float, ...]] = {
    "iou_search": (0.30, 0.31, 0.40),
    "clip": (22.82, 24.92, 26.55),
}
"""Table 3: layers 8, 25 and 32, SAEs of 4,096 latents, 100 features each."""
_HOOKPOINTS = ("model.layers.7", "model.layers.24", "model.layers.31")
PUBLISHED, PUBLISHED_RANDOM = "published", "published_random"


def published_rows(metric: str) -> Iterator[MetricRow]:
    """By concept and in all, with the paper's random images; then by layer."""
    for concept, value in zip(_CONCEPTS, _MAIN[metric], strict=True):
        yield MetricRow(
            metric, value, 0, 0, arm=PUBLISHED, concept=concept, note=f"{NOTE}; no interval given"
        )
    for concept, (value, half) in zip(_CONCEPTS, _RANDOM[metric], strict=True):
        yield MetricRow(
            metric,
            value,
            0,
            0,
            ci_low=value - half,
            ci_high=value + half,
            ci_method="as published: 99 %, over random runs",
            arm=PUBLISHED_RANDOM,
            concept=concept,
            note=NOTE,
        )
    for hookpoint, value in zip(_HOOKPOINTS, _LAYERS[metric], strict=True):
        note = f"{NOTE}; 4,096 latents, 100 features"
        yield MetricRow(metric, value, 0, 0, hookpoint=hookpoint, arm=PUBLISHED, note=note)
