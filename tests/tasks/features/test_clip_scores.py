"""CLIP scores, with a scorer whose vectors are known and with transformers' own classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.features import clip_scores
from lmmsae_eval.tasks.features.clip import TransformersClip
from lmmsae_eval.tasks.features.clip_scores import ClipSpace
from lmmsae_eval.tasks.features.study import studies
from lmmsae_eval.tasks.iou import Iou
from PIL import Image


class KnowingClip:
    """Images and texts on the axes of the scenes; other texts lie on an axis of their own."""

    identity = "knowing"
    texts_seen = 0
    images_seen = 0

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images_seen += len(images)
        night = [np.asarray(image)[0, 0, 1] // 20 % 2 for image in images]
        return np.eye(3, dtype=np.float32)[night] if night else np.zeros((0, 3), np.float32)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts_seen += len(texts)
        axes = {"a day": 0, "a night": 1}
        places = [axes.get(text, 2) for text in texts]
        return np.eye(3, dtype=np.float32)[places] if texts else np.zeros((0, 3), np.float32)


@pytest.fixture
def scene_rows(
    world: Any, study_context: Any, run_task: Any, monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[str, str], Any]:
    from lmmsae_eval.tasks.clip import Clip

    monkeypatch.setattr(clip_scores, "TransformersClip", lambda folder: KnowingClip())
    _, rows = run_task(Clip(), study_context())
    return {(r.metric, r.arm): r for r in rows if r.concept == "scene" and r.hookpoint is None}


def test_right_explanations_score_100_and_shuffled_ones_0(scene_rows: Any) -> None:
    assert scene_rows["clip", "main"].value == pytest.approx(100)
    assert scene_rows["clip", "hard_shuffled"].value == pytest.approx(0)
    assert scene_rows["clip", "main"].null == pytest.approx(0)


def test_the_gap_is_matched_minus_all_other_labels(scene_rows: Any) -> None:
    assert scene_rows["clip_gap", "main"].value == pytest.approx(100)
    # Shuffled: 0 with its own label; one of the seven others is the image's true scene.
    assert scene_rows["clip_gap", "hard_shuffled"].value == pytest.approx(-100 / 7)


def test_r1_counts_images_for_which_the_explanation_is_the_best_label(scene_rows: Any) -> None:
    assert scene_rows["clip_r1", "main"].value == 1
    assert scene_rows["clip_r1", "hard_shuffled"].value == 0


def test_a_score_is_never_below_0() -> None:
    class Opposed(KnowingClip):
        def texts(self, texts: Sequence[str]) -> np.ndarray:
            return -super().texts(texts)

    item = clip_scores.ClipItem((0, 1), (), "day", None)
    found = clip_scores._outcome(item, space(Opposed()), ["day", "night"])
    assert found.scores["clip"] == 0


@pytest.mark.parametrize(("others", "among"), [(5, 6), (98, 99), (99, 100), (500, 100)])
def test_an_explanation_is_ranked_among_a_hundred_labels_at_most(others: int, among: int) -> None:
    labels = ["own", *(f"label {i}" for i in range(others))]
    found = clip_scores.candidates("own", labels, seed=1)
    assert found[0] == "own"
    assert len(found) == len(set(found)) == among
    assert set(found) <= set(labels)
    assert found == clip_scores.candidates("own", labels, seed=1)
    if others > 100:
        assert found != clip_scores.candidates("own", labels, seed=2)


def test_r1_by_chance_is_one_in_a_hundred() -> None:
    """Any label of any picture, when vectors know nothing."""
    rng = np.random.default_rng(0)
    labels = [f"label {i}" for i in range(300)]

    class Noise(KnowingClip):
        def texts(self, texts: Sequence[str]) -> np.ndarray:
            return rng.standard_normal((len(texts), 3)).astype(np.float32)

    known = space(Noise())
    found = [
        clip_scores._outcome(
            clip_scores.ClipItem((0, 1), (), label, None),
            known,
            clip_scores.candidates(label, labels, 0),
        ).scores["clip_r1"]
        for label in labels
    ]
    assert np.mean(found) == pytest.approx(0.01, abs=0.012)


def test_labels_of_the_run_stand_beside_the_vocabulary(study_context: Any, world: Any) -> None:
    context = study_context()
    studies(context)
    context.subject.provider.__dict__["vocabulary"] = {"fog": "scene"}
    found = clip_scores.all_labels(context)
    assert found[0] == "fog"
    assert set(found) == {"fog", *world.vocabulary}


def test_the_row_says_how_many_labels_it_was_ranked_among(scene_rows: Any) -> None:
    rows = [row for key, row in scene_rows.items() if key[0] == "clip_r1"]
    assert all(row.note in ("among 8 labels", "insufficient") for row in rows)


def test_a_region_is_scored_on_the_part_where_the_latent_is_active(
    study_context: Any, run_task: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is as like a box as it is red: cut to the box it is all red."""
    from lmmsae_eval.tasks.clip import Clip

    class RedIsBox(KnowingClip):
        def images(self, images: Sequence[Image.Image]) -> np.ndarray:
            red = [float((np.asarray(image)[..., 0] == 40).mean()) for image in images]
            return np.stack([np.array(red), 1 - np.array(red)], 1).astype(np.float32)

        def texts(self, texts: Sequence[str]) -> np.ndarray:
            return np.array([[t == "a box", t != "a box"] for t in texts], np.float32)

    monkeypatch.setattr(clip_scores, "TransformersClip", lambda folder: RedIsBox())
    lines, _ = run_task(Clip(), study_context([world.perfect_sae()]))
    [box] = [one for one in lines if one["arm"] == "main" and one["detail"]["label"] == "box"]
    assert box["scores"]["clip_crop"] > 1.5 * box["scores"]["clip"]
    assert box["scores"]["clip_crop"] > 50
    [wrong] = [one for one in lines if one["latent"] == box["latent"] and one["arm"] != "main"]
    assert wrong["scores"]["clip_crop"] == pytest.approx(100 - box["scores"]["clip_crop"], abs=1e-3)


def test_the_mean_of_the_images_kept_is_the_score(study_context: Any, run_task: Any) -> None:
    lines, rows = run_task(Iou(), study_context())
    scored = [one for one in lines if "clip" in one["scores"]]
    assert scored
    for one in scored:
        assert np.mean(one["detail"]["each"]) == pytest.approx(one["scores"]["clip"], abs=1e-3)
    assert {row.arm for row in rows if row.metric == "clip_mix"} >= {"main", "hard_shuffled"}


def space(scorer: Any) -> ClipSpace:
    class TwoImages:
        def image(self, index: int) -> Image.Image:
            return Image.new("RGB", (4, 4), (0, 20 * index, 200))

    return ClipSpace(scorer, lambda label: f"a {label}", TwoImages())  # type: ignore[arg-type]


def test_each_label_and_image_is_embedded_once() -> None:
    scorer = KnowingClip()
    known = space(scorer)
    for _ in range(3):
        known.labels(["day", "night", "day"])
        known.images([1, 0, 1])
    assert (scorer.texts_seen, scorer.images_seen) == (2, 2)
    assert known.similarity(["day", "night", "fog"]).round().tolist() == np.eye(3).tolist()


def test_clip_rows_are_in_the_task_iou_too(study_context: Any, run_task: Any) -> None:
    _, rows = run_task(Iou(), study_context())
    assert {"clip", "clip_gap", "clip_r1"} <= {row.metric for row in rows}


def test_transformers_clip_gives_unit_vectors_in_one_space(clip_folder: Path) -> None:
    clip = TransformersClip(clip_folder)
    texts = clip.texts(["a box", "a red bar", "day"])
    images = clip.images([Image.new("RGB", (32, 32), c) for c in ("red", "blue")])
    assert texts.shape == (3, 16)
    assert images.shape == (2, 16)
    for vectors in (texts, images):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_padding_does_not_change_a_text(clip_folder: Path) -> None:
    clip = TransformersClip(clip_folder)
    alone = clip.texts(["box </s>"])
    together = clip.texts(["box </s>", "a red bar box disc </s>"])
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)


def test_clip_identity_is_of_the_weights(clip_folder: Path) -> None:
    assert TransformersClip(clip_folder).identity == TransformersClip(str(clip_folder)).identity
    assert len(TransformersClip(clip_folder).identity) == 64


def test_a_missing_clip_is_a_usage_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no CLIP model") as caught:
        TransformersClip(tmp_path / "nowhere").texts(["a box"])
    assert "\n" not in str(caught.value)
