"""The survey of an image set, on images whose latents are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.sae.lmm import LMM
from lmmsae_eval.sae.topk import TopK, TrainedSae
from lmmsae_eval.tasks.features import stream
from lmmsae_eval.tasks.features.exemplars import (
    Survey,
    census,
    load_surveys,
    sample_latents,
    save_surveys,
    survey_images,
)
from lmmsae_eval.tasks.features.explain import SelfExplainer
from lmmsae_eval.tasks.features.masks import token_mask


def survey(world: Any, n: int = 60, seed: int = 0, lmm: Any = None) -> list[Survey]:
    saes = [world.perfect_sae(), world.perfect_sae(layer=1), world.perfect_sae().untrained(1)]
    images = world.Drawn(n)
    return survey_images(
        lmm or world.SeeingLMM(), saes, images, seed=seed, progress=SilentProgress()
    )


def arrays(one: Survey) -> dict[str, np.ndarray]:
    names = ("fired_images", "fired_tokens", "mass", "maximum", "layout_of")
    found = {name: getattr(one, name) for name in names}
    found |= {"strengths": one.strengths.counts, "octave": one.strengths.octave}
    for group in ("top", "decile"):
        for name in ("images", "pooled", "starts", "tokens", "values"):
            found[f"{group}.{name}"] = getattr(getattr(one, group), name)
    return found


def assert_equal(a: Survey, b: Survey) -> None:
    for name, values in arrays(a).items():
        np.testing.assert_array_equal(values, arrays(b)[name], err_msg=name)


def test_counts_are_those_of_the_label_maps(world: Any) -> None:
    one = survey(world)[0]
    images = world.Drawn(60)
    for latent, label in enumerate(world.vocabulary):
        masks = [images.mask(i, label) for i in range(60)]
        assert one.fired_images[latent] == sum(mask.any() for mask in masks)
        assert one.fired_tokens[latent] == sum(mask.sum() for mask in masks) / 16
    assert one.fired_images[len(world.vocabulary) :].sum() == 0


def test_active_tokens_are_the_pixels_of_the_label(world: Any) -> None:
    one = survey(world)[0]
    images = world.Drawn(60)
    for latent, label in enumerate(world.vocabulary):
        for gallery in (one.top, one.decile):
            assert gallery.count(latent) == 5
            for slot in range(5):
                image = int(gallery.images[latent, slot])
                tokens, _ = gallery.active(latent, slot)
                mask = token_mask(one.boxes(image), tokens, images.size)
                np.testing.assert_array_equal(mask, images.mask(image, label))


def test_top_images_are_those_with_the_highest_mean_activation(world: Any) -> None:
    one = survey(world)[0]
    assert (np.diff(one.top.pooled[: len(world.vocabulary)], axis=1) <= 0).all()
    everything = survey(world, n=20)[0]
    best = everything.top.pooled[2, 0]
    means = []
    for i in range(20):
        image = world.Drawn(20).image(i)
        strength = 1 + (int(np.asarray(image).sum()) % 97) / 97
        means.append(world.Drawn(20).mask(i, "box").mean() * strength)
    assert best == pytest.approx(max(means), rel=1e-5)


def test_decile_images_are_others_than_the_top_ones(world: Any) -> None:
    one = survey(world)[0]
    for latent in range(len(world.vocabulary)):
        assert not set(one.top.images[latent]) & set(one.decile.images[latent])


def test_the_result_does_not_depend_on_the_grouping_of_images(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = survey(world)
    monkeypatch.setattr(stream, "GROUP", 7)
    for a, b in zip(whole, survey(world), strict=True):
        assert_equal(a, b)


def test_the_seed_decides_the_random_images_and_nothing_else(world: Any) -> None:
    first, again, other = (survey(world, seed=seed)[0] for seed in (0, 0, 1))
    assert_equal(first, again)
    np.testing.assert_array_equal(first.top.images, other.top.images)
    assert (first.decile.images != other.decile.images).any()


def test_all_saes_and_hookpoints_share_one_pass(world: Any) -> None:
    lmm = world.SeeingLMM()
    found = survey(world, lmm=lmm)
    assert len(found) == 3
    assert lmm.n_images == 60


def test_surveys_come_back_from_disk_as_they_were(world: Any, tmp_path: Path) -> None:
    found = survey(world)
    save_surveys(found, tmp_path)
    for a, b in zip(found, load_surveys(tmp_path), strict=True):
        assert_equal(a, b)
        assert (a.n_images, a.n_tokens) == (b.n_images, b.n_tokens)
        np.testing.assert_array_equal(a.boxes(0), b.boxes(0))


def test_a_damaged_file_is_a_value_error(world: Any, tmp_path: Path) -> None:
    save_surveys(survey(world, n=3), tmp_path)
    file = tmp_path / "000.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        load_surveys(tmp_path)


@pytest.fixture
def counted(world: Any) -> Callable[..., Survey]:
    """A survey with given counts on 1000 image tokens."""

    def make(images: list[int], tokens: list[int]) -> Survey:
        one = survey(world, n=3)[0]
        return Survey(
            n_images=100,
            n_tokens=1000,
            fired_images=np.array(images),
            fired_tokens=np.array(tokens),
            mass=np.ones(len(images)),
            maximum=np.ones(len(images), np.float32),
            strengths=one.strengths,
            top=one.top,
            decile=one.decile,
            layouts=one.layouts,
            layout_of=one.layout_of,
        )

    return make


def test_a_latent_is_live_from_20_images_on(counted: Callable[..., Survey]) -> None:
    found = census(counted([19, 20, 0], [50, 50, 0]), k=1, rate_floor=0.0)
    assert found.live == [1]
    assert found.dead == 1


def test_a_latent_below_the_rate_floor_is_not_live(counted: Callable[..., Survey]) -> None:
    # The mean rate is k / n = 1 / 4, so the floor is .075 of 1000 tokens.
    found = census(counted([50] * 4, [74, 75, 100, 101]), k=1)
    assert found.live == [1, 2, 3]


def test_a_dense_latent_is_flagged_and_stays(counted: Callable[..., Survey]) -> None:
    found = census(counted([50, 50], [100, 101]), k=1, rate_floor=0.0)
    assert found.live == [0, 1]
    assert found.dense == [1]


def test_many_live_latents_are_sampled_by_the_seed() -> None:
    live = list(range(0, 1000, 2))
    chosen = sample_latents(live, 200, seed=0)
    assert len(chosen) == len(set(chosen)) == 200
    assert set(chosen) <= set(live)
    assert chosen == sorted(sample_latents(live, 200, seed=0))
    assert chosen != sample_latents(live, 200, seed=1)
    assert sample_latents(live[:7], 200, seed=0) == live[:7]


def test_a_real_llava_can_be_surveyed_and_explains_in_its_own_words(
    world: Any, tiny_lmm: LMM
) -> None:
    """Plumbing only: the model knows nothing, but its boxes must lie on the original pixels."""
    random = TopK.random(16, tiny_lmm.d_model, 2, seed=0)
    sae = TrainedSae("random", tiny_lmm.hookpoint(2), random)
    images = world.Drawn(6)
    one = survey_images(tiny_lmm, [sae], images, seed=0, progress=SilentProgress())[0]
    boxes = one.boxes(0)
    assert boxes.shape == (144, 4)
    assert (boxes.min(), boxes.max()) == (0, world.side)
    assert token_mask(boxes, np.arange(144), images.size).all()
    assert one.fired_tokens.sum() == 6 * 144 * 2
    role = SelfExplainer(tiny_lmm, "what is this", {"boat": "object", "sea": "scene"}, "no")
    said = role.explain([[images.image(0), images.image(1)]], SilentProgress())[0]
    assert said.status in ("ok", "unscorable")
    assert said.label in ("boat", "sea", None)
