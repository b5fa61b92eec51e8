"""A picture and the same picture without one thing: the two figures of a question family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .labels import Prior
from .scene import Scene, random_scene, random_thing


def pair(prior: Prior, rng: np.random.Generator, other: str | None = None) -> tuple[Scene, Scene]:
    """A picture of the prior's scene with the thing (or `other`), and the same with it erased."""
    thing = other or prior.thing
    scene = random_scene(rng, prior.scene)
    if scene.thing(thing) is None:
        taken = {t.cell for t in scene.things}
        free = [cell for cell in range(4) if cell not in taken]
        if free:
            new = random_thing(thing, int(rng.choice(free)), rng)
            scene = replace(scene, things=(*scene.things, new))
        else:
            old = scene.things[rng.integers(4)]
            scene = scene.swapped(old.name, random_thing(thing, old.cell, rng))
    return scene, scene.without(thing)
