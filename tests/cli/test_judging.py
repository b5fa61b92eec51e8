"""Options of a chat judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from lmmsae_eval.cli.judging import calling
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.budget import Price

Type = Callable[..., Result]
RUN = ("run", "--tasks", "consistency", "--progress", "none")


def test_a_limit_without_a_price_is_refused_before_anything_is_loaded(type_command: Type) -> None:
    result = type_command(*RUN, "--cost-limit", "5")

    assert result.exit_code == 2
    assert "--cost-limit needs --judge-price IN OUT" in result.stderr


@pytest.mark.parametrize(
    "option",
    [("--concurrency", "0"), ("--call-timeout", "0"), ("--cost-limit", "nan")],
)
def test_numbers_that_mean_nothing_are_refused(type_command: Type, option: tuple[str, str]) -> None:
    assert type_command(*RUN, *option).exit_code == 2


def test_one_call_may_take_five_attempts_time() -> None:
    found = calling(8, 20.0, 5.0, (2.5, 10.0))
    policy, budget = found["policy"], found["cost_limit"]

    assert (policy.timeout, policy.total, policy.concurrency) == (20.0, 100.0, 8)
    assert budget == (5.0, Price(2.5, 10.0))


def test_a_price_is_of_a_million_tokens() -> None:
    usage = {"prompt_tokens": 200_000, "completion_tokens": 1000}
    assert Price(2.5, 10).of(usage) == pytest.approx(0.5 + 0.01)


def test_batches_need_a_judge_that_may_have_them(type_command: Type) -> None:
    assert "--batch needs --judge" in type_command(*RUN, "--batch").stderr
    local = type_command(*RUN, "--batch", "--judge", "hf:somewhere")
    assert "hf:somewhere takes no batches" in local.stderr
    assert local.exit_code == 2


@pytest.mark.parametrize(
    ("options", "taken"),
    [((), True), (("--repeats", "2"), False), (("--no-reply-cache",), False)],
)
def test_a_repeat_is_a_new_call_and_takes_nothing_from_earlier_runs(
    type_command: Type, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], taken: bool
) -> None:
    heard: list[bool] = []

    def run(**how: Any) -> Any:
        heard.append(how["reply_cache"])
        raise UsageError("enough")

    monkeypatch.setattr("lmmsae_eval.tasks.session.run", run)

    type_command(*RUN, *options)

    assert heard == [taken]
