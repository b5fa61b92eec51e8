"""What a run would take, from stored ones: known, scaled by the limit, or honestly unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from lmmsae_eval.harness.budget import ASSUMED_CALL, Price
from lmmsae_eval.harness.forecast import Forecast, Wanted, forecast
from lmmsae_eval.harness.rundir import JUDGE, Run, load_run, samples_file
from lmmsae_eval.harness.runner import Plan, execute
from lmmsae_eval.harness.task import Outcome
from lmmsae_eval.harness.writing import encode_line, replace_bytes

CONFIG: dict[str, Any] = {"tasks": ["toy/mean"], "model": "m", "saes": [], "layers": [2]}
Make = Callable[..., Plan]
Tell = Callable[..., Forecast]


@pytest.fixture
def stored(plan: Make) -> Run:
    """Ten samples of five clusters, of which a judge was asked about eight, in 20 seconds."""

    def judged(sample: Any) -> Outcome:
        return Outcome.ok({"score": 1.0}, **({} if sample.id in ("s0", "s9") else {"judge": "x"}))

    run = execute(plan(judged, config=CONFIG))
    return edited(run, timing={"seconds": 99.0, "tasks": {"toy/mean": 20.0}})


def edited(run: Run, **changes: Any) -> Run:
    document = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**document, **changes}))
    return load_run(run.path)


@pytest.fixture
def tell(toy: Any) -> Tell:
    """The forecast of one toy task; keywords change what is wanted."""

    def made(*runs: Run, price: Price | None = None, repeats: int = 1, **changes: Any) -> Forecast:
        plain = {"config": CONFIG, "protocol": "strict", "seed": 0, "limit": None, "samples": ()}
        wanted = Wanted(**{**plain, "asks_judge": False, **changes})
        return forecast([toy.spec], wanted, runs, price, repeats)

    return made


def test_without_a_stored_run_nothing_is_known_but_task_version_and_protocol(tell: Tell) -> None:
    (task,) = tell().tasks

    assert (task.task, task.version, task.protocol) == ("toy/mean", 1, "strict")
    assert (task.samples, task.judge_calls, task.seconds, task.dollars) == (None,) * 4
    assert tell().total("samples") is None


def test_a_stored_run_of_other_seed_tells_samples_and_seconds(tell: Tell, stored: Run) -> None:
    found = tell(stored, seed=5)

    (task,) = found.tasks
    assert (task.samples, task.judge_calls, task.seconds, task.dollars) == (10, 0, 20.0, 0.0)
    assert task.source == stored.id
    assert found.known_run is None


def test_a_run_of_the_very_same_options_is_named_with_its_status(tell: Tell, stored: Run) -> None:
    found = tell(stored)
    assert (found.known_run, found.known_status) == (stored.id, "complete")

    (stored.path / "manifest.json").unlink()
    again = tell(load_run(stored.path))
    assert (again.known_run, again.known_status) == (stored.id, "partial")
    assert again.tasks[0].samples is None


@pytest.mark.parametrize(
    ("part", "samples"),
    [({"limit": 2}, 4), ({"limit": 0.5}, 6), ({"samples": ["s3", "s4", "s5"]}, 3)],
)
def test_a_part_of_the_samples_is_counted_in_the_stored_ones(
    tell: Tell, stored: Run, part: dict[str, Any], samples: int
) -> None:
    (task,) = tell(stored, asks_judge=True, **part).tasks

    assert task.samples == samples
    assert task.seconds == pytest.approx(20 * samples / 10)
    assert task.judge_calls == samples - (0 if "samples" in part else 1)


def test_a_limited_run_tells_nothing_of_all_samples(tell: Tell, plan: Make) -> None:
    limited = execute(plan(config=CONFIG, limit=2))

    assert tell(limited).tasks[0].samples is None
    assert tell(limited, limit=2, seed=3).tasks[0].samples == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"config": CONFIG | {"model": "other"}, "n_saes": 1},
        {"config": CONFIG | {"layers": [2, 3]}},
        {"config": CONFIG | {"saes": ["hub/sae"]}, "n_saes": None},
        {"config": CONFIG | {"params": {"toy/mean": {"floor": 1}}}},
        {"protocol": "paper"},
    ],
)
def test_another_subject_or_rule_is_unknown(tell: Tell, stored: Run, changes: Any) -> None:
    assert tell(stored, **changes).tasks[0].source is None


@pytest.mark.parametrize("other", [{"layers": [2, 3, 4]}, {"saes": ["mine"]}])
def test_other_saes_or_layers_are_told_by_how_many_saes_there_are(
    tell: Tell, stored: Run, other: dict[str, Any]
) -> None:
    """Of ten samples two are of no SAE; eight were judged, of which one is of none."""
    lines = [dict(line) for line in stored.lines("toy/mean")]
    for line in lines[:2]:
        line["sae"] = None
    file = stored.path / samples_file("toy/mean")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = edited(stored, saes=[{"name": "toy"}])

    found = tell(run, config=CONFIG | other, n_saes=3, asks_judge=True)

    (task,) = found.tasks
    assert (task.source, task.scaled) == (run.id, True)
    assert (task.samples, task.judge_calls) == (2 + 3 * 8, 1 + 3 * 7)
    assert task.seconds == pytest.approx(20 * 26 / 10)
    assert found.known_run is None


def test_a_run_on_the_same_saes_goes_before_a_newer_one_on_others(
    tell: Tell, stored: Run, plan: Make
) -> None:
    saes = [{"name": "toy"}]
    run = edited(stored, saes=saes)
    other = execute(plan(config=CONFIG | {"layers": [9]}, seed=9, saes=saes))
    newer = edited(other, created="9999")

    assert tell(newer, n_saes=1).tasks[0].source == newer.id
    (task,) = tell(run, newer, n_saes=1).tasks
    assert (task.source, task.scaled) == (run.id, False)


def test_repeats_cost_so_many_times_more(tell: Tell, stored: Run) -> None:
    found = tell(stored, repeats=3)

    assert (found.total("samples"), found.total("seconds")) == (30, 60.0)
    assert found.to_json()["total"]["samples"] == 30


def test_money_needs_a_price_and_is_assumed_until_a_run_has_counted_tokens(
    tell: Tell, stored: Run
) -> None:
    counted = {"provider": "openai", "calls": 4, "prompt_tokens": 4000, "completion_tokens": 8}
    price = Price(2.5, 10)

    unheard = tell(stored, asks_judge=True, price=price)
    assert unheard.tasks[0].assumed
    assert unheard.total("dollars") == pytest.approx(8 * price.of(ASSUMED_CALL))
    asked = edited(stored, judge=counted)
    assert tell(asked, asks_judge=True).total("dollars") is None
    found = tell(asked, asks_judge=True, price=price)
    assert found.total("judge_calls") == 8
    assert not found.tasks[0].assumed
    assert found.total("dollars") == pytest.approx(8 * (1000 * 2.5 + 2 * 10) / 1e6)
    replayed = edited(stored, judge=counted | {"provider": "replay"})
    assert tell(replayed, asks_judge=True, price=price).tasks[0].assumed


def test_a_judge_that_costs_nothing_costs_nothing(tell: Tell, stored: Run) -> None:
    assert tell(stored).total("dollars") == 0.0


def test_an_older_run_that_kept_no_seconds_by_task_tells_the_rest(tell: Tell, stored: Run) -> None:
    (task,) = tell(edited(stored, timing={"seconds": 99.0})).tasks

    assert (task.samples, task.seconds) == (10, None)


def test_replies_that_are_kept_need_no_call_but_the_one_that_shows_who_answers(
    tell: Tell, stored: Run
) -> None:
    names = [line["id"] for line in stored.lines("toy/mean")]
    entry = {"role": "judge", "error": None}
    asked = [{**entry, "key": name} for name in (*names, f"{names[0]}#1")]
    replace_bytes(stored.path / JUDGE, b"".join(map(encode_line, asked)))
    heard = set(names[:5]) | {f"{names[0]}#1"}

    def told(**more: Any) -> Any:
        return tell(stored, asks_judge=True, **more).tasks[0]

    assert (told().judge_calls, told().kept_replies) == (8, 0)
    some = told(kept=lambda entry: entry["key"] in heard)
    assert (some.judge_calls, some.kept_replies) == (4, 4)
    assert told(kept=lambda entry: False).judge_calls == 8
    assert told(kept=lambda entry: True, seed=1).judge_calls == 8
