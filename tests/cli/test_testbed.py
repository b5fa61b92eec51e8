"""`testbed card` and `testbed build`, the training itself left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Type = Callable[..., Result]

FIGURES = {"clip": {"recall": 0.81251}, "turns": [{"steps": 300}], "minutes": 40}


@pytest.fixture
def weights(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the package's own weights, with the package's card beside it."""
    from lmmsae_eval.testbed import provider

    folder = in_folder / "testbed" / "weights"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(FIGURES))
    (folder.parent / "CARD.md").write_text(provider.WEIGHTS.with_name("CARD.md").read_text())
    monkeypatch.setattr(provider, "WEIGHTS", folder)
    return folder


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stands in for an hour of training: says two stages, remembers where it wrote."""
    written: list[Path] = []

    def build(out: Path, recipe: Any = None, said: Any = None) -> dict[str, object]:
        for stage in ("vision", "language"):
            for step in (10, 20):
                said(stage, step, 20, 0.5)
        written.append(out)
        return {}

    monkeypatch.setattr("lmmsae_eval.testbed.build.build", build)
    return written


def test_the_card_says_what_the_models_can_not_do_and_how_well_they_do(
    type_command: Type, weights: Path
) -> None:
    result = type_command("testbed", "card")

    assert "What they can't do" in result.output
    assert "clip: recall    0.8125\nturns 1: steps  300\n" in result.output


def test_the_cards_figures_are_json(type_command: Type, weights: Path) -> None:
    assert json.loads(type_command("testbed", "card", "--json").output)["minutes"] == 40


def test_without_weights_the_next_step_is_named(type_command: Type, weights: Path) -> None:
    (weights / "card.json").unlink()

    result = type_command("testbed", "card")

    assert result.exit_code == 2
    assert "run `lmmsae-eval testbed build`" in result.stderr


def test_build_shows_each_stage_and_writes_where_it_is_told(
    type_command: Type, recipe: list[Path], weights: Path
) -> None:
    result = type_command("testbed", "build", "--out", "mine", "--progress", "plain")

    assert result.exit_code == 0
    assert recipe == [Path("mine")]
    assert "vision: 20/20 done" in result.stderr
    assert "language: 20/20 done" in result.stderr


def test_build_replaces_the_packages_own_weights_by_default(
    type_command: Type, recipe: list[Path], weights: Path
) -> None:
    type_command("testbed", "build", "--progress", "none")

    assert recipe == [weights]


def test_build_learns_that_it_can_not_write_before_the_hour_of_training(
    type_command: Type, recipe: list[Path], in_folder: Path
) -> None:
    (in_folder / "file").touch()

    result = type_command("testbed", "build", "--out", "file/weights")

    assert result.exit_code == 2
    assert recipe == []
