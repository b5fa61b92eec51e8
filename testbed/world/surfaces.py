"""What a surface looks like: colour, a coarse texture, and the fine grain of its material."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "orange": (240, 135, 25),
    "yellow": (238, 220, 55),
    "green": (50, 155, 65),
    "blue": (55, 95, 210),
    "purple": (130, 55, 165),
    "pink": (242, 155, 195),
    "brown": (115, 72, 38),
    "grey": (132, 132, 132),
    "white": (240, 240, 240),
    "black": (28, 28, 32),
}

TEXTURE_PERIOD = 8
"""Pixels, one patch: coarser would leave patches plain, finer would drown in their noise."""


def _coordinates(height: int, width: int) -> tuple[Plane, Plane]:
    return (
        np.arange(width, dtype=np.float32)[None, :],
        np.arange(height, dtype=np.float32)[:, None],
    )


def _striped(x: Plane, y: Plane) -> Plane:
    return np.float32(1) * ((x % TEXTURE_PERIOD) < 4) + 0 * y


def _banded(x: Plane, y: Plane) -> Plane:
    return np.float32(1) * ((y % TEXTURE_PERIOD) < 4) + 0 * x


def _dotted(x: Plane, y: Plane) -> Plane:
    u, v = x % TEXTURE_PERIOD - 3.5, y % TEXTURE_PERIOD - 3.5
    return (u * u + v * v < 7.0).astype(np.float32)


def _checkered(x: Plane, y: Plane) -> Plane:
    return (((x // 4) + (y // 4)) % 2).astype(np.float32)


_TEXTURES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "striped": _striped,
    "banded": _banded,
    "dotted": _dotted,
    "checkered": _checkered,
}


@cache
def texture_plane(texture: str, height: int, width: int) -> Plane:
    """`(height, width)` in 0..1: how much of the surface's ink is darkened."""
    if texture == "smooth":
        return np.zeros((height, width), np.float32)
    return _TEXTURES[texture](*_coordinates(height, width))


def _blocks(noise: Plane, cell: int) -> Plane:
    height, width = noise.shape
    coarse = noise[: -(-height // cell), : -(-width // cell)]
    return coarse.repeat(cell, 0)[:height].repeat(cell, 1)[:, :width]


def _plane(values: npt.NDArray[Any]) -> Plane:
    return np.asarray(values, np.float32)


def grain(material: str, noise: Plane) -> Plane:
    """The brightness pattern that tells a material, in grey levels; `noise` is standard normal."""
    x, y = _coordinates(*noise.shape)
    match material:
        case "wood":
            return _plane(20 * np.sin(y * 2.1 + 0.35 * np.sin(x * 0.25)) + 4 * noise)
        case "metal":
            return _plane(34 * np.sin((x + y) * 0.28) + 2 * noise)
        case "fabric":
            return 15 * (2 * ((x + y) % 2) - 1) + 3 * noise
        case "stone" | "soil":
            return 22 * _blocks(noise, 3)
        case "water":
            return _plane(16 * np.sin(y * 0.9 + 1.5 * np.sin(x * 0.2)) + 3 * noise)
        case "grass":
            return 18 * _blocks(noise.T, 1).T * np.ones_like(x)
        case "sand":
            return 10 * noise
        case "snow" | "air" | "plaster":
            return (5 if material == "snow" else 2) * noise
        case "asphalt":
            return _plane(26 * (noise > 1.3) - 8 + 4 * noise)
        case "brick":
            mortar = (y % 8 < 1.5) | ((x + 4 * (y // 8 % 2)) % 12 < 1.5)
            return _plane(34 * mortar - 6 + 3 * noise)
    raise KeyError(material)


def paint(colour: Plane, texture: str, material: str, noise: Plane) -> npt.NDArray[np.float32]:
    """`(height, width, 3)` of 0..255 values, not yet clipped."""
    height, width = noise.shape
    ink = 1 - 0.5 * texture_plane(texture, height, width)
    base = np.asarray(colour, np.float32)[None, None, :] * ink[:, :, None]
    if max(colour) < 70:  # darkening black shows nothing: lighten it instead
        base = base + 90 * (1 - ink)[:, :, None]
    return base + grain(material, noise)[:, :, None]
