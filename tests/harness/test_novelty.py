"""A changed option starts a new run and says which; the same one goes on and says nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.runner import Plan, execute

Make = Callable[..., Plan]


class Heard(SilentProgress):
    """What was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def news(plan: Plan) -> list[str]:
    heard = Heard()
    execute(plan, heard)
    return [line for line in heard.said if line.startswith("a new run")]


def test_the_first_run_of_a_task_is_no_news(plan: Make) -> None:
    assert news(plan()) == []


def test_the_same_plan_again_is_no_news(plan: Make) -> None:
    execute(plan())
    assert news(plan()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed (0, now 1)"),
        ({"limit": 2}, "limit (None, now 2)"),
        ({"samples": ["s1"]}, "samples (None, now ['s1'])"),
        ({"identity": {"model": "other"}}, "model ('m', now 'other')"),
        ({"identity": {"model": "x" * 99}}, "model"),
        ({"identity": {"judge": {"requested": "a"}}}, "judge (None, now {'requested': 'a'})"),
        ({"params": {"floor": 0.5}}, "toy/mean: params floor (None, now 0.5)"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_a_changed_option_is_named_with_what_it_was(
    plan: Make, change: dict[str, Any], said: str
) -> None:
    before = execute(plan())

    (line,) = news(plan(**change))

    assert line.startswith(f"a new run; of {before.id} differ: ")
    parts = line.partition("differ: ")[2].split("; ")
    assert said in parts
    assert len(parts) == (2 if "judge" in said else 1)


def test_a_new_version_of_a_task_is_named(plan: Make, toy: Any) -> None:
    class Newer(toy):  # type: ignore[misc]
        spec = replace(toy.spec, version=2)

    execute(plan())

    (line,) = news(plan(task=Newer()))

    assert "toy/mean: version (1, now 2)" in line


def test_the_newest_run_is_the_one_to_differ_from(plan: Make) -> None:
    execute(plan())
    other = execute(plan(seed=1))

    (line,) = news(plan(seed=2))

    assert line == f"a new run; of {other.id} differ: seed (1, now 2)"


def test_a_run_that_can_not_be_read_is_no_reason_to_make_none(plan: Make) -> None:
    broken = execute(plan())
    (broken.path / "run.json").write_text("{")

    assert news(plan(seed=1)) == []
    assert execute(plan(seed=1)).complete
