"""Samples chosen by id: those alone, a run of its own, marked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lmmsae_eval.errors import NotComparableError, UnknownNameError, UsageError
from lmmsae_eval.harness.compare import compare
from lmmsae_eval.harness.runner import Plan, execute

Make = Callable[..., Plan]


def ids(plan: Plan) -> list[str]:
    return [line["id"] for line in execute(plan).lines("toy/mean")]


def test_only_the_chosen_samples_are_evaluated_in_the_tasks_own_order(plan: Make) -> None:
    assert ids(plan(samples=["s7", "s2"])) == ["s2", "s7"]


def test_a_choice_is_marked_and_is_another_run_whatever_its_order(plan: Make) -> None:
    run = execute(plan(samples=["s7", "s2"]))

    assert run.status == "limited"
    assert run.document["samples"] == ["s7", "s2"]
    assert plan(samples=["s2", "s7"]).path == run.path != plan().path


def test_a_run_over_all_samples_keeps_the_key_that_it_had_before_there_was_a_choice(
    plan: Make,
) -> None:
    assert "samples" not in plan().identity_parts()


def test_a_choice_and_a_limit_both_hold(plan: Make) -> None:
    assert ids(plan(samples=["s2", "s7"], limit=2)) == ["s2"]


def test_chosen_samples_are_not_compared_with_all(plan: Make) -> None:
    with pytest.raises(NotComparableError, match="samples differs"):
        compare(execute(plan()), execute(plan(samples=["s1"])))


def test_a_sample_that_there_is_not_is_refused_before_anything_is_written(
    plan: Make, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="unknown sample 's99'; did you mean 's9'"):
        execute(plan(samples=["s1", "s99"]))

    assert not (tmp_path / "runs").exists()


def test_a_task_without_any_chosen_sample_is_refused(plan: Make) -> None:
    with pytest.raises(UsageError, match=r"'toy/mean' has none of the chosen .*such as s0, s1, s2"):
        execute(plan(samples=["x"]))
