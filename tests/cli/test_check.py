"""`baseline` and `check` as typed: what is printed, what CI is told, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from lmmsae_eval.harness.rundir import Run

Type = Callable[..., Result]
Make = Callable[..., Run]


@pytest.fixture(autouse=True)
def _no_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def good(make_run: Make, type_command: Type) -> Run:
    """Blessed: nine latents of ten are consistent."""
    run = make_run(share=0.9)
    assert type_command("baseline", "set", run.id, "--reason", "first good run").exit_code == 0
    return run


def test_a_blessed_run_is_shown_with_its_reason(good: Run, type_command: Type) -> None:
    shown = type_command("baseline", "show").output

    assert f"{good.id}, blessed 2" in shown
    assert "first good run" in shown
    story = json.loads(type_command("baseline", "show", "--json").output)
    assert (story["run_id"], story["history"]) == (good.id, [])


def test_a_run_passes_against_itself(good: Run, type_command: Type) -> None:
    result = type_command("check", good.id)

    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith("check passed: 1 numbers held")


def test_a_regression_is_exit_4_and_one_line_that_says_so(
    good: Run, make_run: Make, type_command: Type
) -> None:
    result = type_command("check", make_run(share=0.3).id)

    assert result.exit_code == 4
    (error,) = result.stderr.splitlines()
    assert "check failed: consistency tpr at layer 2 dropped by 0.6429" in error
    assert "(exit 4)" in error
    assert "dropped by" in result.stdout


def test_json_and_exit_code_say_the_same(good: Run, make_run: Make, type_command: Type) -> None:
    for share, code in ((0.9, 0), (0.3, 4)):
        result = type_command("check", make_run(share=share).id, "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout)["passed"] is (code == 0)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--max-drop", "tpr=60%"], 4),
        (["--max-drop", "tpr=80%"], 0),
        (["--max-drop", "consistency=0.7"], 0),
        (["--max-drop", "tpr=1", "--min", "tpr=0.5"], 4),
        (["--max-drop", "tpr=1", "--min-coverage", "0.95"], 4),
        (["--max-drop", "consitent=1"], 2),
        (["--max-drop", "tpr"], 2),
        (["--max-drop", "tpr=-1"], 2),
        (["--max-drop", "tpr=nan"], 2),
        (["--min", "tpr=much"], 2),
        (["--baseline", "nowhere.json"], 2),
    ],
)
def test_options_decide(
    good: Run, make_run: Make, type_command: Type, options: list[str], code: int
) -> None:
    assert type_command("check", make_run(share=0.3).id, *options).exit_code == code


def test_a_floor_alone_needs_no_baseline(make_run: Make, type_command: Type) -> None:
    run = make_run(share=0.5)

    assert type_command("check", run.id, "--min", "tpr=0.4").exit_code == 0
    assert type_command("check", run.id, "--min", "tpr=0.6").exit_code == 4
    assert type_command("check", run.id).exit_code == 2


def test_other_data_is_exit_5(good: Run, make_run: Make, type_command: Type) -> None:
    result = type_command("check", make_run(share=0.9, version=2, seed=1).id)

    assert result.exit_code == 5
    assert "dataset differs" in result.stderr


def test_half_a_run_is_exit_3(good: Run, make_run: Make, type_command: Type) -> None:
    assert type_command("check", make_run(share=0.3, fail_on_error=0).id).exit_code == 3


def test_actions_gets_an_annotation_and_a_summary(
    good: Run, make_run: Make, type_command: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))

    result = type_command("check", make_run(share=0.3).id, "--json")

    assert json.loads(result.stdout)["passed"] is False
    command = "::error title=lmmsae-eval check::consistency tpr at layer 2 dropped by 0.6429"
    assert any(line.startswith(command) for line in result.stderr.splitlines())
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("### lmmsae-eval: check failed: ")
    assert "| consistency | 2 | tpr | 0.964 | 0.321 | -0.643 | **dropped by" in summary


def test_a_passing_gate_annotates_nothing(
    good: Run, type_command: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    assert type_command("check", good.id).stderr == ""


def test_what_a_file_names_cannot_give_commands_to_actions() -> None:
    from lmmsae_eval.cli.github import commands, markdown
    from lmmsae_eval.harness.gate import Gate, Verdict

    evil = "a\n::set-output name=x::y | <script>"
    verdict = Verdict(evil, evil, None, None, None, 1.0, 0.0, True, 1, 1, problems=(evil,))
    gate = Gate("run", "baseline", 0.05, [verdict])

    (line,) = commands(gate)
    assert "\n" not in line
    table = markdown(gate).splitlines()[-1]
    assert "<script>" not in table
    assert len([c for c in table.replace("\\|", "") if c == "|"]) == 8


def test_an_empty_option_is_none_at_all(good: Run, type_command: Type) -> None:
    """As the action types them."""
    assert type_command("check", good.id, "--max-drop", "", "--min", "").exit_code == 0
