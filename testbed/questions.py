"""A question set in HallusionBench's schema, its answers true by construction.

Families of original and edited figures:

* `VD`: a picture and the same picture with one thing removed or swapped (figures 0 and 1).
* `VS`: no picture, the picture, the edited picture (figures 0, 1 and 2). Asked without a picture,
  the true answer is what the world usually holds: a thing expected there is there more often than
  not, a thing denied there is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from .recipe.words import is_there, yes_no, yes_no_text
from .world.labels import LABELS, PRIORS, VOCABULARY, Prior, prior_of
from .world.pairs import pair
from .world.render import render
from .world.scene import Scene, random_thing

Record = dict[str, str | None]
FAMILIES = {"VD": 24, "VS": 12, "matched": 12}
"""Families a prior: two kinds about its thing, and one about another thing in its scene."""
SEED = 404


@dataclass(slots=True)
class QuestionSet:
    """HallusionBench records with three keys more: `kind`, `topic` and `edit`."""

    name: str
    revision: str
    records: list[Record]
    scenes: Mapping[str, Scene] = field(repr=False)
    """By file name."""

    def __len__(self) -> int:
        return len(self.records)

    def image_for(self, record: Record) -> Image.Image | None:
        """The figure a record asks about; None for a question without one."""
        filename = record["filename"]
        return None if filename is None else Image.fromarray(render(self.scenes[filename]).image)


@dataclass(frozen=True, slots=True)
class _Family:
    category: str
    subcategory: str
    number: int
    prior: Prior
    thing: str
    original: Scene
    edited: Scene

    def record(
        self, figure: int, scene: Scene | None, number: int, text: str, truth: bool
    ) -> Record:
        first = 1 if self.category == "VS" else 0
        return {
            "category": self.category,
            "subcategory": self.subcategory,
            "visual_input": "0" if scene is None else str(1 + (figure > first)),
            "set_id": str(self.number),
            "figure_id": str(figure),
            "sample_note": self.prior.scene,
            "question_id": str(number),
            "question": text,
            "gt_answer": "1" if truth else "0",
            "gt_answer_details": yes_no(truth),
            "filename": None
            if scene is None
            else f"./{self.category}/{self.subcategory}/{self.number}_{figure}.png",
        }


def _swap(scene: Scene, thing: str, rng: np.random.Generator) -> Scene:
    """Exchange a thing for one that has no prior in this scene and isn't there yet."""
    here = {t.name for t in scene.things}
    pool = [t for t in LABELS["object"] if t not in here and prior_of(scene.name, t) is None]
    old = scene.thing(thing)
    assert old is not None
    return scene.swapped(thing, random_thing(str(rng.choice(pool)), old.cell, rng))


def _families(rng: np.random.Generator) -> Iterator[_Family]:
    number = 0
    for i in range(max(FAMILIES.values())):
        for prior in PRIORS:
            for group, n in FAMILIES.items():
                if i >= n:
                    continue
                yield _family(group, number, prior, rng)
                number += 1


def _family(group: str, number: int, prior: Prior, rng: np.random.Generator) -> _Family:
    free = [t for t in LABELS["object"] if prior_of(prior.scene, t) is None]
    thing = str(rng.choice(free)) if group == "matched" else prior.thing
    original, removed = pair(prior, rng, thing)
    swapped = rng.random() < 0.4
    edited = _swap(original, thing, rng) if swapped else removed
    category = "VS" if group == "VS" else "VD"
    return _Family(
        category, "swapped" if swapped else "removed", number, prior, thing, original, edited
    )


def _records(family: _Family, rng: np.random.Generator) -> Iterator[Record]:
    prior, thing = family.prior, family.thing
    blind = family.category == "VS"
    text = is_there(thing, prior.scene if blind else None)
    topic = prior_of(prior.scene, thing)
    kind = f"prior_{topic.answer}" if topic else "matched"
    if blind:
        record = family.record(0, None, 0, text, prior.answer == "yes")
        yield record | {"kind": "blind", "topic": thing, "edit": "none"}
    side = _side_questions(family, rng)
    for figure, scene in enumerate((family.original, family.edited), start=int(blind)):
        edit = "none" if scene is family.original else family.subcategory
        record = family.record(figure, scene, 0, text, scene.thing(thing) is not None)
        yield record | {"kind": kind, "topic": thing, "edit": edit}
        if not blind:
            for k, label in enumerate(side, 1):
                record = family.record(figure, scene, k, yes_no_text(label), _true(scene, label))
                yield record | {"kind": "other", "topic": label, "edit": edit}


def _side_questions(family: _Family, rng: np.random.Generator) -> list[str]:
    """Two questions on the same figures that no prior touches."""
    free = [
        t for t in LABELS["object"] if t != family.thing and prior_of(family.prior.scene, t) is None
    ]
    return [str(rng.choice(free)), str(rng.choice(LABELS["colour"]))]


def _true(scene: Scene, label: str) -> bool:
    if VOCABULARY[label] == "object":
        return scene.thing(label) is not None
    return int(render(scene).mask(label).sum()) >= 32  # half a patch, as in training


def drawn_questions(split: str = "all") -> QuestionSet:
    """The set, whole or by half: `dev` and `test` share no family."""
    rng = np.random.default_rng(SEED)
    records: list[Record] = []
    scenes: dict[str, Scene] = {}
    for family in _families(rng):
        rows = list(_records(family, rng))
        if split != "all" and (family.number // 40) % 2 != ("dev", "test").index(split):
            continue
        records += rows
        for row in rows:
            if row["filename"] is not None:
                first = row["visual_input"] == "1"
                scenes[row["filename"]] = family.original if first else family.edited
    return QuestionSet("testbed-questions", f"questions-1/{split}", records, scenes)


def families(records: Sequence[Record]) -> list[str]:
    """The family of each record: `category/subcategory/set_id`."""
    return [f"{r['category']}/{r['subcategory']}/{r['set_id']}" for r in records]
