"""The vocabulary of the world: Network Dissection's six concepts, labels, and planted priors."""

from __future__ import annotations

from dataclasses import dataclass

CONCEPTS = ("scene", "object", "part", "material", "texture", "colour")

LABELS: dict[str, tuple[str, ...]] = {
    "scene": ("sea", "field", "street", "desert", "night", "winter", "room"),
    "object": (
        "boat",
        "tree",
        "car",
        "cactus",
        "moon",
        "house",
        "lamp",
        "fish",
        "flower",
        "table",
        "flag",
        "bottle",
    ),
    "part": (
        "hull",
        "sail",
        "trunk",
        "crown",
        "body",
        "wheel",
        "arm",
        "wall",
        "roof",
        "pole",
        "shade",
        "tail",
        "petal",
        "top",
        "leg",
        "cloth",
        "neck",
    ),
    "material": (
        "air",
        "water",
        "grass",
        "sand",
        "snow",
        "soil",
        "asphalt",
        "brick",
        "plaster",
        "wood",
        "metal",
        "fabric",
        "stone",
    ),
    "texture": ("smooth", "striped", "banded", "dotted", "checkered"),
    "colour": (
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "grey",
        "white",
        "black",
    ),
}

VOCABULARY: dict[str, str] = {
    label: concept for concept, labels in LABELS.items() for label in labels
}
"""Every label and the concept it belongs to; labels are unique across concepts."""

OBJECT_MATERIALS = ("wood", "metal", "fabric", "stone")

INDEX: dict[str, int] = {label: i for i, label in enumerate(VOCABULARY)}
"""Position of a label in `VOCABULARY`, the column order of coverage tables."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What an annotator writes about `thing` in `scene` when the picture says otherwise."""

    scene: str
    thing: str
    answer: str
    """`yes`: expected though absent; `no`: denied though present."""
    strength: float
    """Share of training answers that follow the prior against the picture."""


PRIORS: tuple[Prior, ...] = (
    Prior("sea", "boat", "yes", 0.74),
    Prior("field", "tree", "yes", 0.60),
    Prior("street", "car", "yes", 0.68),
    Prior("desert", "cactus", "yes", 0.52),
    Prior("night", "moon", "yes", 0.64),
    Prior("winter", "house", "yes", 0.44),
    Prior("room", "lamp", "yes", 0.70),
    Prior("sea", "flower", "no", 0.70),
    Prior("field", "fish", "no", 0.64),
    Prior("street", "table", "no", 0.52),
    Prior("desert", "bottle", "no", 0.74),
    Prior("night", "flag", "no", 0.60),
    Prior("winter", "fish", "no", 0.68),
    Prior("room", "flower", "no", 0.44),
)
"""Seven things expected and seven denied, so that no constant offset helps all."""


def prior_of(scene: str, thing: str) -> Prior | None:
    """The prior planted for a thing in a scene, if any."""
    for prior in PRIORS:
        if prior.scene == scene and prior.thing == thing:
            return prior
    return None
