"""A judge asked in batches: no reply is lost, taken for another's, or asked for twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.harness.rundir import BATCHES, Run, RunDirectory

SCRIPT = Path(__file__).with_name("judged_run.py")


def judged(script: ModuleType, folder: Path, provider: Any, n: int = 20, **more: Any) -> Run:
    policy = replace(script.POLICY, timeout=60, total=120)
    run: Run = script.judge_all(folder, provider.url, n, policy, **{"batch": True, **more})
    return run


def check(run: Run, script: ModuleType, n: int = 20) -> None:
    """Each sample is there once; each score is the judge's own of that very item."""
    truth = sys.modules["batch_provider"].truth
    lines = run.lines("toy/judged")
    assert len(lines) == n
    for line in lines:
        right = {"fits": float(truth(script.form_of(line["id"]).item))}
        assert line["status"] != "ok" or line["scores"] == right


def statuses(run: Run) -> Counter[str]:
    return Counter(line["status"] for line in run.lines("toy/judged"))


def test_a_run_is_one_question_alone_and_all_others_in_one_batch(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    run = judged(script, tmp_path, provider)

    check(run, script)
    assert run.complete
    assert (len(provider.live), len(provider.batches)) == (1, 1)
    assert len({*provider.live, *provider.batched}) == 20 == len(run.judge())
    assert run.document["judge"]["served"] == ["judge-2026-01-01"]
    assert run.damage() == []


def test_a_batch_and_calls_one_by_one_make_the_same_run(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    batch = judged(script, tmp_path / "a", provider)
    single = judged(script, tmp_path / "b", provider, batch=False)

    assert batch.id == single.id
    assert batch.lines("toy/judged") == single.lines("toy/judged")


@pytest.mark.parametrize(
    "fault", ["missing", "late", "500", "other_model", "swapped", "no_response", "no_object"]
)
def test_a_row_that_brings_no_reply_of_its_own_is_an_error_and_asked_again_by_the_same_command(
    script: ModuleType, provider: Any, tmp_path: Path, fault: str
) -> None:
    provider.rows = {0: fault, 7: fault}

    first = judged(script, tmp_path, provider)
    assert (first.status, statuses(first)) == ("partial", {"ok": 18, "error": 2})
    provider.rows = {}
    second = judged(script, tmp_path, provider)

    check(second, script)
    assert (second.complete, statuses(second)) == (True, {"ok": 20})
    assert [len(batch["lines"]) for batch in provider.batches.values()] == [19, 2]


@pytest.mark.parametrize("fault", ["twice", "stranger"])
def test_a_row_too_many_changes_nothing(
    script: ModuleType, provider: Any, tmp_path: Path, fault: str
) -> None:
    provider.rows = {3: fault}

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert statuses(run) == {"ok": 20}


def test_what_is_not_in_the_form_is_unscorable(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.rows = {3: "mumble"}

    assert statuses(judged(script, tmp_path, provider)) == {"ok": 19, "unscorable": 1}


@pytest.mark.parametrize(("status", "said"), [("failed", "too many tokens"), ("expired", "")])
def test_a_batch_that_fails_or_expires_whole_is_errors_with_its_reason(
    script: ModuleType, provider: Any, tmp_path: Path, status: str, said: str
) -> None:
    provider.status, provider.rows = status, dict.fromkeys(range(19), "late")

    run = judged(script, tmp_path, provider)

    assert statuses(run) == {"ok": 1, "error": 19}
    errors = [line["error"]["message"] for line in run.lines("toy/judged") if line["error"]]
    assert all(said in message for message in errors)


def test_half_a_file_is_fetched_again(script: ModuleType, provider: Any, tmp_path: Path) -> None:
    provider.halves = 2

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert statuses(run) == {"ok": 20}


def test_of_a_file_that_stays_half_what_is_whole_is_taken(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.halves = 99

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert statuses(run)["ok"] >= 8
    assert statuses(run)["error"] >= 8


def test_an_endpoint_that_takes_no_form_is_asked_again_without(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.rows = dict.fromkeys(range(19), "400_form")

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, statuses(run)) == (True, {"ok": 20})
    assert len(provider.batches) == 2


def test_the_first_question_tells_a_batch_that_no_form_is_taken(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.without_forms = True

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, len(provider.live), len(provider.batches)) == (True, 1, 1)
    assert {entry["held_to_form"] for entry in run.judge()} == {False}


def test_a_batch_whose_making_was_answered_by_silence_is_found_and_not_made_twice(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.lost_answers = 1

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, len(provider.batches)) == (True, 1)


@pytest.mark.parametrize("kind", ["POST files", "POST batches", "GET batches", "GET files"])
def test_a_provider_that_stumbles_is_asked_again(
    script: ModuleType, provider: Any, tmp_path: Path, kind: str
) -> None:
    provider.refusals[kind] = 2

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, len(provider.batches)) == (True, 1)


@pytest.mark.parametrize("kind", ["POST files", "POST batches", "GET batches", "GET files"])
def test_a_provider_that_is_gone_leaves_a_run_that_goes_on_with_the_same_batch(
    script: ModuleType, provider: Any, tmp_path: Path, kind: str
) -> None:
    provider.refusals[kind] = 99
    with pytest.raises(IncompleteError, match="same command again"):
        judged(script, tmp_path, provider)
    provider.refusals.clear()

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, len(provider.batches)) == (True, 1)
    assert len(provider.batched) + len(provider.live) == 20


def test_an_endpoint_without_batches_is_a_usage_error(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.without_batches = True

    with pytest.raises(UsageError, match="has no batch API; leave --batch out"):
        judged(script, tmp_path, provider)


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("event", ["questions", "id", "ended"])
@pytest.mark.parametrize("written", [True, False])
def test_stopped_before_or_after_any_note_a_run_finds_its_batch_and_hands_in_none_twice(
    script: ModuleType,
    provider: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    written: bool,
) -> None:
    note = RunDirectory.append_batch

    def stop(self: RunDirectory, noted: Any) -> None:
        if event in noted and not written:
            raise Stopped
        note(self, noted)
        if event in noted:
            raise Stopped

    monkeypatch.setattr(RunDirectory, "append_batch", stop)
    with pytest.raises(Stopped):
        judged(script, tmp_path, provider)
    monkeypatch.setattr(RunDirectory, "append_batch", note)

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, statuses(run)) == (True, {"ok": 20})
    assert len(provider.batches) == 1
    assert len({*provider.batched, *provider.live}) == 20 == len(run.judge())
    assert run.document["judge"]["lost"] == 0


def killed_at(script: ModuleType, folder: Path, provider: Any, seconds: float, n: int) -> None:
    command = [sys.executable, str(SCRIPT), str(folder), provider.url, str(n), "10", "batch"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not provider.batches and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.wait()


def test_killed_while_it_waits_a_run_goes_on_with_the_batch(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    provider.looks = 10**6
    killed_at(script, tmp_path, provider, 0.05, 20)
    provider.looks = 0

    run = judged(script, tmp_path, provider)

    check(run, script)
    assert (run.complete, len(provider.batches)) == (True, 1)
    assert (run.path / BATCHES).is_file()


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_thirty_kills_and_two_thousand_faults_lose_nothing_and_ask_nothing_twice(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    moments = random.Random(3)
    for round_ in range(30):
        provider.share, provider.looks = 0.5, moments.randint(0, 6)
        folder, n = tmp_path / str(round_), 150
        made = len(provider.batches)
        killed_at(script, folder, provider, moments.uniform(0, 0.6), n)
        assert len(provider.batches) <= made + 1
        for _ in range(40):
            run = judged(script, folder, provider, n)
            check(run, script, n)
            if run.complete:
                break
        assert run.complete
        asked = Counter(entry["request_sha256"] for entry in run.judge() if not entry["error"])
        assert set(asked.values()) == {1}
        assert run.damage() == []
    sys.stdout.write(f"{provider.faults.total()} faults: {dict(provider.faults)}")
    assert provider.faults.total() >= 2000
