"""Exact masks out of label maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from lmmsae_eval.tasks.features.segment import ExactMasks


def test_a_label_is_where_its_map_says(world: Any) -> None:
    images, masks = world.Drawn(20), ExactMasks()
    for i in range(20):
        for label in world.vocabulary:
            np.testing.assert_array_equal(masks.segment(images, i, label), images.mask(i, label))


def test_an_unknown_label_is_no_empty_mask(world: Any) -> None:
    assert ExactMasks().segment(world.Drawn(3), 0, "zebra") is None


def test_label_maps_are_read_once_and_kept_within_a_limit(world: Any) -> None:
    class Counting(world.Drawn):  # type: ignore[name-defined]
        reads = 0

        def label_maps(self, i: int) -> Any:
            Counting.reads += 1
            return super().label_maps(i)

    images, masks = Counting(5), ExactMasks(keep=2 * 3 * world.side**2)
    for label in world.vocabulary:
        masks.segment(images, 0, label)
    assert Counting.reads == 1
    for i in (1, 2):
        masks.segment(images, i, "day")
    assert Counting.reads == 3
    # Image 0 has fallen out; what is not on it is known all the same.
    absent = [label for label in world.vocabulary if not images.mask(0, label).any()]
    Counting.reads = 0
    for label in absent:
        mask = masks.segment(images, 0, label)
        assert mask is not None
        assert (mask.shape, mask.sum()) == ((world.side, world.side), 0)
    assert absent
    assert Counting.reads == 0
    present = next(label for label in world.vocabulary if label not in absent)
    masks.segment(images, 0, present)
    assert Counting.reads == 1


def test_sets_of_the_same_size_are_not_confused(world: Any) -> None:
    masks = ExactMasks()
    one, other = world.Drawn(9, 1, "one"), world.Drawn(9, 2, "other")
    for i in range(9):
        masks.segment(one, i, "day")
        np.testing.assert_array_equal(masks.segment(other, i, "day"), other.mask(i, "day"))
