"""Scenes to pixels, label maps and patch coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .labels import CONCEPTS, INDEX, LABELS, VOCABULARY
from .scene import SIZE, Scene, Thing
from .shapes import part_masks
from .surfaces import PALETTE, Plane, paint

PATCH = 8
GRID = SIZE // PATCH

_VALUE = {label: LABELS[concept].index(label) + 1 for label, concept in VOCABULARY.items()}
"""Label-map value of a label; 0 is 'nothing of this concept here'."""

_ABOVE: dict[str, tuple[str, str | None]] = {  # material and colour of the upper region
    "sea": ("air", "blue"),
    "field": ("air", "blue"),
    "street": ("brick", None),
    "desert": ("air", "yellow"),
    "night": ("air", "black"),
    "winter": ("air", "grey"),
    "room": ("plaster", None),
}
_BELOW: dict[str, tuple[str, str | None]] = {
    "sea": ("water", "blue"),
    "field": ("grass", "green"),
    "street": ("asphalt", "grey"),
    "desert": ("sand", "orange"),
    "night": ("soil", "brown"),
    "winter": ("snow", "white"),
    "room": ("wood", "brown"),
}
_SKY_LIGHT = 0.35
"""Skies are blended this far towards white, so that a blue thing shows against them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`image` `(96, 96, 3)` and `maps` `(6, 96, 96)`, both uint8, maps in `CONCEPTS` order."""

    image: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.uint8]

    def mask(self, label: str) -> npt.NDArray[np.bool_]:
        """`(96, 96)` bool: where the label is true."""
        mask: npt.NDArray[np.bool_] = self.maps[CONCEPTS.index(VOCABULARY[label])] == _VALUE[label]
        return mask


def _jitter(colour: str, rng: np.random.Generator, light: float = 0.0) -> Plane:
    rgb = np.asarray(PALETTE[colour], np.float32) + rng.uniform(-12, 12, 3)
    return np.asarray(rgb * (1 - light) + 255 * light, np.float32)


def _background(scene: Scene, canvas: npt.NDArray[np.float32], maps: npt.NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(scene.seed)
    noise = rng.standard_normal((SIZE, SIZE), np.float32)
    rows = (slice(0, scene.horizon), slice(scene.horizon, SIZE))
    for band, table, texture in zip(
        rows, (_ABOVE, _BELOW), ("smooth", scene.ground_texture), strict=True
    ):
        material, colour = table[scene.name]
        colour = colour or scene.wall_colour
        light = _SKY_LIGHT if material == "air" and colour != "black" else 0.0
        canvas[band] = paint(_jitter(colour, rng, light), texture, material, noise[band])
        _label(maps[:, band], None, material, texture, colour)
    maps[0] = _VALUE[scene.name]


def _label(
    maps: npt.NDArray[np.uint8],
    where: npt.NDArray[np.bool_] | None,
    material: str,
    texture: str,
    colour: str,
) -> None:
    for index, label in ((3, material), (4, texture), (5, colour)):
        maps[index, where if where is not None else slice(None)] = _VALUE[label]


def _draw(thing: Thing, canvas: npt.NDArray[np.float32], maps: npt.NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(thing.seed)
    noise = rng.standard_normal((thing.size, thing.size), np.float32)
    window = (slice(thing.y, thing.y + thing.size), slice(thing.x, thing.x + thing.size))
    local = maps[:, window[0], window[1]]
    for i, (part, mask) in enumerate(part_masks(thing.name, thing.size)):
        colour, texture = (thing.colour, thing.texture) if i == 0 else (thing.trim, "smooth")
        surface = paint(_jitter(colour, rng), texture, thing.material, noise)
        canvas[window][mask] = surface[mask]
        local[1, mask] = _VALUE[thing.name]
        local[2, mask] = _VALUE[part] if part else 0
        _label(local, mask, thing.material, texture, colour)


def render(scene: Scene) -> Picture:
    """Draw a scene. Nothing but the scene's own seeds enters, so it can be drawn again anywhere."""
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    maps = np.zeros((len(CONCEPTS), SIZE, SIZE), np.uint8)
    _background(scene, canvas, maps)
    for thing in scene.things:
        _draw(thing, canvas, maps)
    return Picture(np.clip(canvas, 0, 255).astype(np.uint8), maps)


_FIRST = np.cumsum([0] + [len(LABELS[concept]) for concept in CONCEPTS])[:-1]
_PATCH_OF_PIXEL = (
    (np.arange(SIZE) // PATCH)[:, None] * GRID + (np.arange(SIZE) // PATCH)[None, :]
).ravel()


def coverage(maps: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`(144, n_labels)` pixels of each patch (0..64) that bear each label, columns as `INDEX`."""
    width = len(INDEX) + len(CONCEPTS)  # one spare column a concept for 'nothing'
    start = _FIRST + np.arange(len(CONCEPTS))
    columns = maps.reshape(len(CONCEPTS), -1).astype(np.int64) + start[:, None]
    cells = (_PATCH_OF_PIXEL * width + columns).ravel()
    table = np.bincount(cells, minlength=GRID * GRID * width).reshape(GRID * GRID, width)
    return np.delete(table, start, axis=1).astype(np.uint8)
