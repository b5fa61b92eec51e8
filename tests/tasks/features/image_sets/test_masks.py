"""Masks of users' data sets are used exactly as they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import BadImageError, UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.task import Context
from lmmsae_eval.sae.lmm import LMM
from lmmsae_eval.sae.topk import TopK, TrainedSae
from lmmsae_eval.tasks.detect import Detect
from lmmsae_eval.tasks.dissect import Dissect
from lmmsae_eval.tasks.features.dissection import dissect
from lmmsae_eval.tasks.features.exemplars import survey_images
from lmmsae_eval.tasks.features.image_sets.columns import Objects, layers
from lmmsae_eval.tasks.features.image_sets.opening import OwnProvider
from lmmsae_eval.tasks.features.masks import best_tokens, token_mask
from lmmsae_eval.tasks.features.segment import ExactMasks
from lmmsae_eval.tasks.fuzz import Fuzz
from lmmsae_eval.tasks.iou import Iou
from lmmsae_eval.tasks.subject import Subject
from PIL import Image

N = 90


def place_of(name: str) -> int:
    """Of a row or a file in the drawn world."""
    return int("".join(filter(str.isdigit, name)))


@pytest.mark.parametrize(
    ("way", "concepts"),
    [
        ("ade", ("object",)),
        ("coco", ("object",)),
        ("broden", ("scene", "object", "colour")),
    ],
)
def test_every_pixel_is_as_it_was_drawn(
    tmp_path: Path, write: Any, open_set: Any, world: Any, way: str, concepts: tuple[str, ...]
) -> None:
    images = getattr(write, way)(tmp_path / "set", 12)
    own = open_set(tmp_path / "set")
    assert tuple(own.score.labels) == concepts
    looked_at = 0
    masks = ExactMasks()
    for part in (own.search, own.score):
        for i, name in enumerate(part.ids):
            place = place_of(name)
            assert part.image(i).tobytes() == images.image(place).tobytes()
            assert part.size_of(i) == (world.side, world.side)
            for label in part.vocabulary:
                wanted = images.mask(place, label)
                np.testing.assert_array_equal(part.mask(i, label), wanted)
                np.testing.assert_array_equal(masks.segment(part, i, label), wanted)
                looked_at += 1
    assert looked_at > 30


def context_of(own: Any, world: Any, provider: Any) -> Context[Subject]:
    subject = Subject(
        lmm=world.SeeingLMM(),
        saes=[world.perfect_sae(), world.perfect_sae().untrained(seed=3)],
        provider=OwnProvider(own, provider, embedded=True),
        n_search=len(own.search),
        n_score=len(own.score),
    )
    return Context(subject, ArtefactStore(), SilentProgress())


def test_scores_on_own_masks_are_those_of_a_perfect_dictionary(
    tmp_path: Path, write: Any, open_set: Any, world: Any, study_context: Any, run_task: Any
) -> None:
    write.coco(tmp_path / "set", N)
    own = open_set(tmp_path / "set")
    context = context_of(own, world, study_context().subject.provider)

    def score(task: Any, metric: str) -> dict[str, float]:
        rows = run_task(task, context)[1]
        return {
            r.arm: r.value
            for r in rows
            if r.metric == metric and r.concept is None and r.hookpoint is None
        }

    found = score(Iou(), "iou_top")
    assert found["main"] == pytest.approx(1)
    assert found["hard_shuffled"] < 0.3
    assert score(Detect(), "detect")["main"] == pytest.approx(1)
    assert score(Fuzz(), "fuzz")["main"] > 0.9
    assert score(Dissect(), "dissect")["main"] > 0.9


def test_pictures_of_many_sizes_go_through_a_real_model(
    tmp_path: Path, open_set: Any, tiny_lmm: LMM
) -> None:
    """Random weights: only that boxes, masks and controls lie on each picture's own pixels."""
    lines = []
    (tmp_path / "set").mkdir()
    for i in range(12):
        size = (40 + 9 * i, 90 - 5 * i)
        Image.effect_noise(size, 80).save(tmp_path / "set" / f"{i}.png")
        width, height = size
        left = [0, 0, width / 2, 0, width / 2, height, 0, height]
        above = [0, 0, width, 0, width, height / 2, 0, height / 2]
        things = [{"category": c, "segmentation": [s]} for c, s in (("west", left), ("up", above))]
        lines.append(json.dumps({"file_name": f"{i}.png", "objects": things}))
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(lines))
    images = open_set(tmp_path / "set").search
    random = TrainedSae("random", tiny_lmm.hookpoint(2), TopK.random(16, tiny_lmm.d_model, 2, 0))
    one = survey_images(tiny_lmm, [random], images, seed=0, progress=SilentProgress())[0]
    for i in range(len(images)):
        boxes, size = one.boxes(i), images.size_of(i)
        assert token_mask(boxes, np.arange(len(boxes)), size).all()
        for label, side in (("west", 0), ("up", 1)):
            truth = images.mask(i, label)
            assert truth.mean() == pytest.approx(0.5, abs=0.02)
            assert truth.shape == (size[1], size[0])
            middle = (boxes[:, side] + boxes[:, side + 2]) / 2 < size[side] / 2
            best = np.zeros(len(boxes), bool)
            best[best_tokens(truth, boxes)] = True
            np.testing.assert_array_equal(best, middle)
    maxima = [one.maximum]
    (found,) = dissect(tiny_lmm, [random], images, [range(16)], maxima, SilentProgress())
    pixels = sum(width * height for width, height in map(images.size_of, range(len(images))))
    # Each token has two of 16 latents.
    assert found.active[:, :, 0].sum() == 2 * pixels
    for column, label in enumerate(images.vocabulary):
        mine = sum(images.mask(i, label).sum() for i in range(len(images)))
        assert found.truth[0, :, column].sum() == mine
        # The next picture's, brought to each one's own size.
        assert found.truth[1, :, column].sum() == pytest.approx(pixels / 2, rel=0.05)


def test_overlapping_things_lose_no_pixel() -> None:
    person, bat = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    person[:, 1:4], bat[2, :] = True, True
    found = layers(iter([("person", person), ("bat", bat)]), ["bat", "person"], (5, 4))
    assert found.shape == (2, 4, 5)
    np.testing.assert_array_equal((found == 2).any(0), person)
    np.testing.assert_array_equal((found == 1).any(0), bat)


def test_a_category_seen_twice_is_one_mask_and_stays_in_one_layer() -> None:
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :3], right[:, 1:] = True, True
    found = layers(iter([("a", left), ("b", right), ("a", right)]), ["a", "b"], (4, 2))
    assert [int((layer == 1).sum()) for layer in found] == [8, 0]


@pytest.mark.parametrize(
    "shape",
    [
        [1, 1, 3, 1, 3, 2, 1, 2],
        [[1.0, 1, 3, 1, 3, 2, 1, 2]],
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]],
        {"size": [3, 4], "counts": [4, 1, 2, 1, 4]},
    ],
)
def test_polygons_run_lengths_and_bitmasks_say_the_same(shape: Any) -> None:
    column = Objects("objects", "object", ["a"], {0: "a"}, "category", "segmentation")
    wanted = np.zeros((3, 4), bool)
    wanted[1, 1:3] = True
    for things in (
        [{"category": 0, "segmentation": shape}],
        {"category": [0], "segmentation": [shape]},
    ):
        ((label, mask),) = column.masks({"objects": things}, (4, 3))
        assert label == "a"
        np.testing.assert_array_equal(mask, wanted)


def test_without_names_numbers_mean_nothing(tmp_path: Path, write: Any, open_set: Any) -> None:
    write.ade(tmp_path / "set", 6)
    (tmp_path / "set" / "names.json").unlink()
    with pytest.raises(UsageError, match="'mask' mean; give --label-names FILE"):
        open_set(tmp_path / "set")


def test_a_split_in_a_folder_of_its_own_is_found(tmp_path: Path, write: Any, open_set: Any) -> None:
    write.ade(tmp_path / "set" / "validation", 9)
    write.ade(tmp_path / "set" / "train", 6)
    (tmp_path / "set" / "train" / "names.json").rename(tmp_path / "set" / "names.json")
    ref = f"dataset:{tmp_path / 'set'}:validation"
    own = open_set(ref)
    assert len(own.search) + len(own.score) + own.n_dropped == 9
    assert own.score.labels == {"object": ["box", "bar", "disc"]}


def test_a_file_of_names_may_lie_anywhere(tmp_path: Path, write: Any, open_set: Any) -> None:
    write.ade(tmp_path / "set", 6)
    (tmp_path / "set" / "names.json").rename(tmp_path / "mine.json")
    (tmp_path / "mine.json").write_text(json.dumps({"mask": [None, "box", "", "disc"]}))
    own = open_set(tmp_path / "set", tmp_path / "mine.json")
    assert own.score.labels == {"object": ["box", "disc"]}


def test_names_moved_by_a_number_are_another_revision(
    tmp_path: Path, write: Any, open_set: Any
) -> None:
    write.ade(tmp_path / "set", 6)
    found = []
    for names in (["box", "disc"], [None, "box", "disc"]):
        (tmp_path / "mine.json").write_text(json.dumps({"mask": names}))
        found.append(open_set(tmp_path / "set", tmp_path / "mine.json"))
    assert found[0].score.labels == found[1].score.labels
    assert found[0].revision != found[1].revision


@pytest.mark.parametrize("text", ["{", "3", '{"mask": 3}', '{"mask": {"one": "wall"}}'])
def test_a_file_that_names_nothing_is_one_line(
    tmp_path: Path, write: Any, open_set: Any, text: str
) -> None:
    write.ade(tmp_path / "set", 6)
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.json") as error:
        open_set(tmp_path / "set", tmp_path / "mine.json")
    assert "\n" not in str(error.value)


def test_names_of_a_column_that_is_not_there_are_refused(
    tmp_path: Path, write: Any, open_set: Any
) -> None:
    write.ade(tmp_path / "set", 6)
    (tmp_path / "mine.json").write_text('{"masks": ["wall"]}')
    with pytest.raises(UsageError, match="'masks', which isn't there; there are"):
        open_set(tmp_path / "set", tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Image.new("L", (9, 9)), "its mask is 9 x 9 pixels, the picture 32 x 32"),
        (Image.new("RGB", (32, 32)), "in colour"),
    ],
)
def test_a_mask_that_does_not_fit_its_picture_is_named(
    tmp_path: Path, write: Any, open_set: Any, broken: Image.Image, said: str
) -> None:
    write.ade(tmp_path / "set", 6)
    for i in range(6):
        broken.save(tmp_path / "set" / f"m{i:03d}.png")
    with pytest.raises(BadImageError, match=f"row \\d of set: .*{said}.*; mend or remove it"):
        open_set(tmp_path / "set")


def test_a_label_of_two_concepts_is_told_apart(tmp_path: Path, write: Any, open_set: Any) -> None:
    write.broden(tmp_path / "set", 8)
    names = {"object": [None, "wood", "bar", "disc"], "color": [None, "wood", "green", "blue"]}
    (tmp_path / "set" / "names.json").write_text(json.dumps(names))
    own = open_set(tmp_path / "set")
    assert own.score.vocabulary["wood"] == "object"
    assert own.score.vocabulary["wood (colour)"] == "colour"
    images = write.drawn(8)
    for i, name in enumerate(own.search.ids):
        place = place_of(name)
        np.testing.assert_array_equal(own.search.mask(i, "wood"), images.mask(place, "box"))
        np.testing.assert_array_equal(
            own.search.mask(i, "wood (colour)"), images.mask(place, "red")
        )
