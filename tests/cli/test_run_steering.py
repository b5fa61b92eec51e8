"""Options of `run` for halluc: refused with nothing to act on, no other run by default."""

from __future__ import annotations

import pytest
from lmmsae_eval.cli.steering import steering_params

DEFAULTS = {"controls": "standard", "strategy": "attribution", "folds": 1, "objects": None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--controls", "all"], "--controls is for the task halluc"),
        (["--folds", "5"], "--folds is for the task halluc and chair"),
        (["--objects", "amber"], "--objects is for the task chair"),
        (["--questions", "q.json"], "add one of them to --tasks"),
    ],
)
def test_an_option_of_halluc_without_halluc_is_refused(type_command, options, said):
    result = type_command("run", "--tasks", "dissect", "--progress", "none", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_defaults_make_no_other_run_and_what_differs_is_a_parameter():
    assert steering_params(dict(DEFAULTS), ["halluc"]) == {}
    chosen = DEFAULTS | {"folds": 5, "strategy": "save"}
    assert steering_params(chosen, ["halluc"]) == {"halluc": {"folds": 5, "strategy": "save"}}


def test_what_is_chosen_for_features_reaches_chair_and_the_controls_do_not(tmp_path):
    place = tmp_path / "o.json"
    place.write_text('{"objects": {"boat": []}, "images": {"a.jpg": ["boat"]}}')
    chosen = DEFAULTS | {"folds": 2, "controls": "all", "objects": str(place)}
    found = steering_params(chosen, ["halluc", "chair"])
    assert found["halluc"] == {"folds": 2, "controls": "all"}
    assert found["chair"].keys() == {"folds", "objects"}
    place.write_text('{"objects": {"boat": []}, "images": {"a.jpg": []}}')
    again = steering_params(DEFAULTS | {"objects": str(place)}, ["chair"])
    assert again["chair"]["objects"]["identity"] != found["chair"]["objects"]["identity"]


def test_an_unknown_strategy_is_refused_with_the_known_ones(type_command):
    result = type_command("run", "--tasks", "halluc", "--strategy", "luck")
    assert result.exit_code == 2
    assert "attribution" in result.stderr
