"""The shapes of objects as named parts on a unit square, y downwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Grid = npt.NDArray[np.float32]
Region = Callable[[Grid, Grid], Mask]


def rect(x0: float, y0: float, x1: float, y1: float) -> Region:
    return lambda x, y: (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Region:
    return lambda x, y: ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1


def convex(*points: tuple[float, float]) -> Region:
    """A convex polygon, its corners clockwise as seen on screen."""

    def region(x: Grid, y: Grid) -> Mask:
        inside = np.ones(np.broadcast(x, y).shape, bool)
        for (ax, ay), (bx, by) in zip(points, (*points[1:], points[0]), strict=True):
            inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
        return inside

    return region


def union(*regions: Region) -> Region:
    def region(x: Grid, y: Grid) -> Mask:
        whole = regions[0](x, y)
        for other in regions[1:]:
            whole = whole | other(x, y)
        return whole

    return region


PARTS: dict[str, tuple[tuple[str | None, Region], ...]] = {
    "boat": (
        ("hull", convex((0, 0.6), (1, 0.6), (0.82, 1), (0.18, 1))),
        ("sail", convex((0.5, 0), (0.95, 0.58), (0.12, 0.58))),
    ),
    "tree": (
        ("crown", ellipse(0.5, 0.31, 0.46, 0.31)),
        ("trunk", rect(0.34, 0.6, 0.66, 1)),
    ),
    "car": (
        ("body", union(rect(0, 0.38, 1, 0.74), rect(0.2, 0.1, 0.8, 0.4))),
        ("wheel", union(ellipse(0.24, 0.78, 0.2, 0.2), ellipse(0.76, 0.78, 0.2, 0.2))),
    ),
    "cactus": (
        ("trunk", rect(0.34, 0, 0.66, 1)),
        (
            "arm",
            union(
                rect(0, 0.15, 0.2, 0.62),
                rect(0, 0.45, 0.34, 0.62),
                rect(0.8, 0.3, 1, 0.77),
                rect(0.66, 0.6, 1, 0.77),
            ),
        ),
    ),
    "moon": ((None, ellipse(0.5, 0.5, 0.5, 0.5)),),
    "house": (
        ("wall", rect(0.08, 0.46, 0.92, 1)),
        ("roof", convex((0.5, 0), (1, 0.46), (0, 0.46))),
    ),
    "lamp": (
        ("shade", convex((0.28, 0), (0.72, 0), (1, 0.5), (0, 0.5))),
        ("pole", rect(0.38, 0.5, 0.62, 1)),
    ),
    "fish": (
        ("body", ellipse(0.36, 0.5, 0.36, 0.3)),
        ("tail", convex((1, 0.15), (1, 0.85), (0.62, 0.5))),
    ),
    "flower": (
        (
            "petal",
            union(
                ellipse(0.5, 0.14, 0.2, 0.16),
                ellipse(0.5, 0.48, 0.2, 0.16),
                ellipse(0.24, 0.31, 0.24, 0.16),
                ellipse(0.76, 0.31, 0.24, 0.16),
            ),
        ),
        ("pole", rect(0.38, 0.58, 0.62, 1)),
    ),
    "table": (
        ("top", rect(0, 0.22, 1, 0.54)),
        ("leg", union(rect(0.06, 0.54, 0.3, 1), rect(0.7, 0.54, 0.94, 1))),
    ),
    "flag": (
        ("cloth", rect(0.26, 0, 1, 0.52)),
        ("pole", rect(0.02, 0, 0.26, 1)),
    ),
    "bottle": (
        ("body", rect(0.22, 0.4, 0.78, 1)),
        ("neck", rect(0.36, 0, 0.64, 0.4)),
    ),
}
"""Main part first: it carries the object's texture and gives the object its colour and material."""


@cache
def part_masks(thing: str, size: int) -> tuple[tuple[str | None, Mask], ...]:
    """The parts of an object drawn `size` pixels wide; a pixel belongs to one part only."""
    centre = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = np.asarray(centre[None, :]), np.asarray(centre[:, None])
    taken = np.zeros((size, size), bool)
    parts = []
    for name, region in reversed(PARTS[thing]):
        mask = np.broadcast_to(region(x, y), (size, size)) & ~taken
        taken |= mask
        parts.append((name, mask))
    return tuple(reversed(parts))
