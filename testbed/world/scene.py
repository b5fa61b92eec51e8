"""What is in a picture, before it is drawn: a scene, and objects that each carry their own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .labels import LABELS, OBJECT_MATERIALS, PRIORS, prior_of

SIZE = 96
"""Pixels a side; with patches of 8 the LMM sees 12 x 12 image tokens."""
CELL = SIZE // 2
SMALLEST, LARGEST = 34, 46


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. `seed` draws its grain, so that erasing another changes nothing here."""

    name: str
    x: int
    y: int
    size: int
    colour: str
    trim: str
    """Colour of the parts that are not the main one."""
    texture: str
    material: str
    seed: int

    @property
    def cell(self) -> int:
        """Which quarter of the picture it stands in, 0 to 3."""
        return self.x // CELL + 2 * (self.y // CELL)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture's content; equal scenes render to equal pixels."""

    name: str
    seed: int
    horizon: int
    """Row where the ground begins."""
    ground_texture: str
    wall_colour: str
    """Colour of the upper region where the scene leaves it open (street, room)."""
    things: tuple[Thing, ...]

    def thing(self, name: str) -> Thing | None:
        return next((thing for thing in self.things if thing.name == name), None)

    def without(self, name: str) -> Scene:
        return replace(self, things=tuple(t for t in self.things if t.name != name))

    def swapped(self, name: str, other: Thing) -> Scene:
        """The same picture with one object exchanged for another in its place."""
        return replace(self, things=tuple(other if t.name == name else t for t in self.things))


@dataclass(frozen=True, slots=True)
class Rates:
    """How often things appear when pictures are drawn at random."""

    expected: float = 0.72
    denied: float = 0.26
    other: float = 0.13


def random_thing(name: str, cell: int, rng: np.random.Generator) -> Thing:
    """An object of random looks at a random place within one quarter of the picture."""
    size = int(rng.integers(SMALLEST, LARGEST + 1))
    slack = CELL - size
    x = CELL * (cell % 2) + int(rng.integers(0, slack + 1))
    y = CELL * (cell // 2) + int(rng.integers(0, slack + 1))
    colour, trim = rng.choice(len(LABELS["colour"]), 2, replace=False)
    return Thing(
        name,
        x,
        y,
        size,
        LABELS["colour"][colour],
        LABELS["colour"][trim],
        LABELS["texture"][rng.integers(len(LABELS["texture"]))],
        OBJECT_MATERIALS[rng.integers(len(OBJECT_MATERIALS))],
        int(rng.integers(2**31)),
    )


def _presence(scene: str, name: str, rates: Rates) -> float:
    prior = prior_of(scene, name)
    if prior is None:
        return rates.other
    return rates.expected if prior.answer == "yes" else rates.denied


def _chosen(scene: str, rates: Rates, rng: np.random.Generator) -> list[str]:
    names = LABELS["object"]
    present = rng.random(len(names)) < [_presence(scene, name, rates) for name in names]
    chosen = [name for name, here in zip(names, present, strict=True) if here]
    rng.shuffle(chosen)
    if len(chosen) > 4:  # four quarters; the scene's own things are the last to go
        own = {prior.thing for prior in PRIORS if prior.scene == scene}
        chosen = sorted(chosen, key=lambda name: name not in own)[:4]
    return chosen


def random_scene(
    rng: np.random.Generator,
    name: str | None = None,
    rates: Rates | None = None,
    things: Sequence[str] | None = None,
) -> Scene:
    """A random picture. `things` fixes which objects are in it (at most four)."""
    scene = name or LABELS["scene"][rng.integers(len(LABELS["scene"]))]
    chosen = list(things) if things is not None else _chosen(scene, rates or Rates(), rng)
    cells = rng.permutation(4)[: len(chosen)]
    walls = {"street": ("orange", "brown", "red"), "room": ("pink", "purple", "yellow")}
    texture = LABELS["texture"][rng.integers(len(LABELS["texture"]))]
    return Scene(
        scene,
        int(rng.integers(2**31)),
        int(rng.integers(32, 65)),
        texture if rng.random() < 0.25 else "smooth",
        str(rng.choice(walls.get(scene, ("blue",)))),
        tuple(
            random_thing(thing, int(cell), rng) for thing, cell in zip(chosen, cells, strict=True)
        ),
    )
