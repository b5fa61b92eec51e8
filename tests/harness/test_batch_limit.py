"""What batches cost, and where they stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.errors import IncompleteError
from lmmsae_eval.harness.batch_chat import BatchChat
from lmmsae_eval.harness.budget import Price
from lmmsae_eval.harness.rundir import Run, RunDirectory

PRICE = Price(1000, 1000)
"""110 tokens at $1,000 a million: $.11 alone, $.055 in a batch; set aside: about $.28 each."""


def judged(script: ModuleType, folder: Path, provider: Any, limit: float) -> Run:
    policy = replace(script.POLICY, timeout=60, total=120)
    run: Run = script.judge_all(
        folder, provider.url, 20, policy, batch=True, limit=limit, price=PRICE
    )
    return run


def test_a_batch_costs_half_and_stops_before_the_limit(
    script: ModuleType, provider: Any, tmp_path: Path
) -> None:
    with pytest.raises(IncompleteError, match="go on with a higher --cost-limit"):
        judged(script, tmp_path, provider, 0.6)
    stopped = len(provider.live) + len(provider.batched)

    run = judged(script, tmp_path, provider, 6.0)

    assert 1 <= stopped < 10
    assert provider.live[0] not in provider.batched
    assert (run.complete, len(run.lines("toy/judged"))) == (True, 20)
    assert len(provider.batched) == len(set(provider.batched)) == 19


class Stopped(BaseException):
    """The process ends here."""


def test_what_a_killed_run_has_handed_in_is_paid_before_more_goes_out(
    script: ModuleType, provider: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, fetched = RunDirectory.append_batch, BatchChat._fetched
    batches_when_fetched = []

    def stop(self: RunDirectory, noted: Any) -> None:
        note(self, noted)
        if "id" in noted:
            raise Stopped

    def fetch(self: BatchChat, *args: Any) -> bool:
        batches_when_fetched.append(len(provider.batches))
        return fetched(self, *args)

    monkeypatch.setattr(RunDirectory, "append_batch", stop)
    with pytest.raises(Stopped):
        judged(script, tmp_path, provider, 2.0)
    monkeypatch.setattr(RunDirectory, "append_batch", note)
    monkeypatch.setattr(BatchChat, "_fetched", fetch)
    handed_in = len(provider.batched)

    run = judged(script, tmp_path, provider, 2.0)

    assert 1 <= handed_in < 19
    assert batches_when_fetched[0] == 1
    assert (run.complete, len(run.lines("toy/judged"))) == (True, 20)
    assert len(provider.batched) == len(set(provider.batched)) == 19
