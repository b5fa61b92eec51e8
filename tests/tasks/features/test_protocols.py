"""The three protocols differ exactly where the paper, its code and we differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.clip import Clip
from lmmsae_eval.tasks.features.masks import centred
from lmmsae_eval.tasks.features.protocols import RULES, SIDE, Squashed, base_grid
from lmmsae_eval.tasks.iou import Iou


def grid(rows: int, columns: int, width: float = 336, height: float = 336) -> np.ndarray:
    x, y = width / columns, height / rows
    cells = [(c * x, r * y, c * x + x, r * y + y) for r in range(rows) for c in range(columns)]
    return np.array(cells, np.float32)


def area(protocol: str, tokens: list[int]) -> int:
    mask = RULES[protocol].mask(grid(24, 24), np.array(tokens), (SIDE, SIDE))
    return int(mask.sum())


def block(side: int) -> list[int]:
    return [24 * (6 + r) + 6 + c for r in range(side) for c in range(side)]


@pytest.mark.parametrize(("side", "factor"), [(1, 3.98), (2, 2.24), (4, 1.56), (8, 1.27)])
def test_a_block_of_patches_grows_in_released_alone(side: int, factor: float) -> None:
    exact = side**2 * 14**2
    assert area("released", block(side)) / exact == pytest.approx(factor, abs=0.006)
    assert area("strict", block(side)) == area("paper", block(side)) == exact


def test_tokens_of_tiles_light_nothing_up_in_released() -> None:
    both = np.concatenate([grid(24, 24), grid(48, 48)])
    mask = RULES["released"].mask(both, np.array([24 * 24 + 5]), (SIDE, SIDE))
    assert not mask.any()


@pytest.mark.parametrize("shape", [(24, 24), (12, 20), (1, 7), (7, 1)])
def test_the_base_grid_is_read_off_the_boxes(shape: tuple[int, int]) -> None:
    boxes = grid(*shape, 500, 300)
    assert base_grid(boxes) == shape
    assert base_grid(np.concatenate([boxes, grid(30, 30, 500, 300)])) == shape


def test_boxes_that_are_no_grid_are_refused() -> None:
    scattered = np.array([[0, 0, 5, 5], [9, 9, 12, 12], [0, 20, 4, 22], [3, 30, 9, 31]], np.float32)
    with pytest.raises(UsageError, match="base grid"):
        base_grid(scattered[:3])


def test_a_squashed_set_keeps_its_labels_under_the_same_pixels(world: Any) -> None:
    images = world.Drawn(3)
    squashed = Squashed(images, 96)
    np.testing.assert_array_equal(
        squashed.mask(1, "day"), images.mask(1, "day").repeat(3, 0).repeat(3, 1)
    )
    maps = squashed.label_maps(2)
    for concept, labels in images.label_maps(2).items():
        np.testing.assert_array_equal(maps[concept], labels.repeat(3, 0).repeat(3, 1))
    assert squashed.image(0).size == squashed.size_of(0) == (96, 96)


def test_a_centred_box_has_the_masks_area() -> None:
    mask = np.zeros((20, 40), bool)
    mask[:5, :10] = True
    box = centred(mask)
    assert box.sum() == 50
    assert box[10, 20]
    assert not box[0, 0]


def under(protocol: str, context: Any, task: Any, run_task: Any) -> tuple[list[Any], list[Any]]:
    lines, rows = run_task(task, replace(context, protocol=protocol))
    assert {line["protocol"] for line in lines} == {protocol}
    return lines, rows


def total(rows: Any, metric: str, arm: str = "main") -> Any:
    [row] = [
        r for r in rows
        if (r.metric, r.arm) == (metric, arm) and not r.concept and not r.hookpoint
    ]  # fmt: skip
    return row


def test_paper_and_released_score_the_images_of_the_explanation(
    study_context: Any, run_task: Any
) -> None:
    for protocol in ("paper", "released"):
        lines, rows = under(protocol, study_context(), Iou(), run_task)
        mine = [one for one in lines if one["id"].endswith("/main/search")]
        assert mine
        for one in mine:
            assert all(name.startswith("search-") for name in one["detail"]["images"])
        assert {one["arm"] for one in lines if "/search" in one["id"]} == {
            "main", "random_images", "rolled", "hard_shuffled", "untrained",
        }  # fmt: skip
        assert total(rows, "iou_search").n_ok == 8


def test_on_exact_patches_paper_is_perfect_and_released_pays_for_growing(
    study_context: Any, run_task: Any
) -> None:
    paper = total(under("paper", study_context(), Iou(), run_task)[1], "iou_search")
    released = total(under("released", study_context(), Iou(), run_task)[1], "iou_search")
    assert paper.value == pytest.approx(1)
    assert 0.5 < released.value < 0.95


def test_the_papers_random_row_only_says_how_rare_the_label_is(
    study_context: Any, run_task: Any
) -> None:
    """Perfect masks: 1 where the label is in the random picture, else 0. Scenes are in half."""
    _, rows = under("paper", study_context(), Iou(), run_task)
    [scene] = [
        r for r in rows
        if (r.metric, r.arm, r.concept) == ("iou_search", "random_images", "scene")
        and not r.hookpoint
    ]  # fmt: skip
    assert scene.value == pytest.approx(0.5, abs=0.15)
    assert scene.note is not None


def test_missing_images_count_as_zero_outside_strict(
    world: Any, study_context: Any, run_task: Any
) -> None:
    """Said to be day, the latent of night is wrong on all its images."""
    context = study_context([world.perfect_sae()], world.SeeingLMM(says="day"))
    lines, _ = under("paper", context, Iou(), run_task)
    night = next(one for one in lines if one["latent"] == 1 and one["id"].endswith("main/search"))
    assert night["detail"]["each"] == [0.0] * 5


def test_clip_has_the_papers_random_images_in_the_papers_protocols_alone(
    study_context: Any, run_task: Any
) -> None:
    _, rows = under("paper", study_context(), Clip(), run_task)
    assert total(rows, "clip", "random_images").n_ok == 8
    strict, _ = under("strict", study_context(), Clip(), run_task)
    assert "random_images" not in {one["arm"] for one in strict}
