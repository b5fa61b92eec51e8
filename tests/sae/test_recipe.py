"""Presets: the published hyper-parameters, and what is chosen instead of them."""

from __future__ import annotations

import pytest
from lmmsae_eval.errors import UnknownNameError, UsageError
from lmmsae_eval.sae.recipe import PRESETS, Recipe, learning_rate, recipe_for


def test_the_paper_preset_has_every_published_number() -> None:
    recipe = recipe_for("paper")
    assert (recipe.n_latents, recipe.k, recipe.tokens) == (131072, 256, "all")
    assert recipe.lr == pytest.approx(7.07e-5, rel=1e-3)
    assert (recipe.auxk_alpha, recipe.dead_after) == (0.0, 10_000_000)
    assert (recipe.clip, recipe.centre, recipe.accumulate, recipe.seed) == (1.0, "median", 4, 42)
    assert recipe.steps == pytest.approx(24_300, rel=0.01)


def test_the_published_rate_rises_for_1000_steps_and_then_falls_to_nothing() -> None:
    recipe = recipe_for("paper")
    rates = [learning_rate(recipe, step) / recipe.lr for step in range(recipe.steps)]
    assert rates[499] == pytest.approx(0.5)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (999, 1000)
    assert rates[-1] < 1e-3


def test_the_published_rate_follows_the_width_and_a_chosen_one_stays() -> None:
    assert recipe_for("paper", n_latents=2**14).lr == 2e-4
    assert recipe_for("small", lr="published", n_latents=2**14).lr == 2e-4
    assert recipe_for("paper", lr=0.5).lr == 0.5


def test_the_small_preset_is_the_default_recipe() -> None:
    assert recipe_for("small", steps=500) == Recipe()
    assert recipe_for("small").steps == 489


def test_what_is_chosen_replaces_the_presets() -> None:
    recipe = recipe_for("paper", k=32, n_tokens=1000, batch_tokens=300, seed=0)
    assert (recipe.k, recipe.steps, recipe.seed, recipe.n_latents) == (32, 4, 0, 131072)


def test_an_unknown_preset_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        recipe_for("papr")
    with pytest.raises(UsageError, match="accumulate"):
        recipe_for("small", accumulate=0)


def test_the_command_offers_every_preset() -> None:
    from lmmsae_eval.cli.train import command

    [option] = [option for option in command.params if option.name == "preset"]
    assert list(option.type.choices) == list(PRESETS)  # type: ignore[attr-defined]
