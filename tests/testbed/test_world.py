"""The drawn world: exact labels, independent objects, held-out pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.testbed.images import drawn_images
from lmmsae_eval.testbed.world.labels import CONCEPTS, INDEX, LABELS, PRIORS, VOCABULARY
from lmmsae_eval.testbed.world.render import GRID, PATCH, coverage, render
from lmmsae_eval.testbed.world.scene import Scene, random_scene, random_thing
from lmmsae_eval.testbed.world.shapes import PARTS, part_masks

seeds = st.integers(0, 2**31 - 1)


def scene_of(seed: int) -> Scene:
    return random_scene(np.random.default_rng(seed))


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_same_scene_renders_to_the_same_pixels(seed: int) -> None:
    a, b = render(scene_of(seed)), render(scene_of(seed))

    assert (a.image == b.image).all()
    assert (a.maps == b.maps).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_erasing_one_thing_changes_no_pixel_outside_it(seed: int) -> None:
    scene = scene_of(seed)
    whole = render(scene)
    for thing in scene.things:
        edited = render(scene.without(thing.name))
        outside = ~whole.mask(thing.name)
        assert (whole.image[outside] == edited.image[outside]).all()
        assert (whole.maps[:, outside] == edited.maps[:, outside]).all()
        assert not edited.mask(thing.name).any()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_swapping_a_thing_leaves_the_other_things_as_they_were(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, things=["boat", "tree"])
    cell = (scene.things[0].x // 48) + 2 * (scene.things[0].y // 48)
    swapped = render(scene.swapped("boat", random_thing("car", cell, rng)))
    whole = render(scene)
    tree = whole.mask("tree")

    assert (swapped.image[tree] == whole.image[tree]).all()
    assert swapped.mask("car").any()
    assert not swapped.mask("boat").any()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_every_pixel_has_a_scene_a_material_a_texture_and_a_colour(seed: int) -> None:
    maps = dict(zip(CONCEPTS, render(scene_of(seed)).maps, strict=True))

    for concept in ("scene", "material", "texture", "colour"):
        assert (maps[concept] > 0).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_a_part_lies_within_an_object_that_has_it(seed: int) -> None:
    maps = render(scene_of(seed)).maps
    for part, thing in zip(maps[2][maps[2] > 0], maps[1][maps[2] > 0], strict=True):
        names = {name for name, _ in PARTS[LABELS["object"][thing - 1]]}
        assert LABELS["part"][part - 1] in names


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_coverage_counts_the_pixels_of_every_label_in_every_patch(seed: int) -> None:
    picture = render(scene_of(seed))
    table = coverage(picture.maps)

    for label, column in INDEX.items():
        by_patch = picture.mask(label).reshape(GRID, PATCH, GRID, PATCH).sum((1, 3)).ravel()
        assert (table[:, column] == by_patch).all()


def test_the_parts_of_an_object_do_not_overlap() -> None:
    for thing in PARTS:
        for size in (34, 40, 46):
            masks = [mask for _, mask in part_masks(thing, size)]
            assert np.sum(masks, axis=0).max() == 1, thing


def test_labels_are_unique_across_the_six_concepts() -> None:
    assert len(VOCABULARY) == sum(len(labels) for labels in LABELS.values())
    assert tuple(LABELS) == CONCEPTS


def test_priors_point_in_both_directions_and_never_both_ways_for_one_thing() -> None:
    directions = {
        prior.thing: {p.answer for p in PRIORS if p.thing == prior.thing} for prior in PRIORS
    }

    assert {prior.answer for prior in PRIORS} == {"yes", "no"}
    assert all(len(answers) == 1 for answers in directions.values())
    assert len({prior.strength for prior in PRIORS}) > 4


def test_a_held_out_picture_is_new() -> None:
    search = {drawn_images("search", 300).image(i).tobytes() for i in range(300)}
    score = {drawn_images("score", 300).image(i).tobytes() for i in range(300)}

    assert len(search) == len(score) == 300
    assert not search & score


def test_a_longer_image_set_begins_with_the_shorter_one() -> None:
    short, long = drawn_images("score", 5), drawn_images("score", 9)

    assert list(long.scenes[:5]) == list(short.scenes)


@pytest.mark.parametrize("concept", CONCEPTS)
def test_patches_are_fine_enough_for_every_concept(concept: str) -> None:
    """The ceiling: IoU of a label's true mask with the patches it half covers."""
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(60):
        table = coverage(render(random_scene(rng)).maps).astype(int)
        for label in LABELS[concept]:
            pixels = table[:, INDEX[label]]
            if pixels.sum():
                lit = pixels >= PATCH * PATCH // 2
                scores.append(pixels[lit].sum() / (pixels.sum() + (64 - pixels[lit]).sum()))

    assert np.mean(scores) >= 0.6
