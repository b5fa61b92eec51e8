"""How a run's chat models are opened: one call at a time or in batches, with replies of before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.batch_chat import BatchChat
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.transcript import Transcript
from lmmsae_eval.tasks.chats import Calling, judge_of
from lmmsae_eval.tasks.features.roles import Roles
from lmmsae_eval.tasks.planning import Opened, _planned
from lmmsae_eval.tasks.request import Request, chosen_tasks

URL = "http://127.0.0.1:9/v1#m"


def judge(ref: str | None, *, batch: bool) -> Any:
    request = Request(["iou", "consistency"], judge=ref)
    calling = Calling(batch=batch)
    return judge_of(request, chosen_tasks(request), Transcript(), SilentProgress(), calling)


def test_in_batches_questions_are_asked_ahead_of_the_tasks_that_ask_a_judge_and_of_no_other() -> (
    None
):
    request = Request(["iou", "consistency"], judge=URL)
    subject = cast("Any", SimpleNamespace(roles=Roles()))
    for batch in (True, False):
        asked = judge(URL, batch=batch)
        opened = Opened(request, chosen_tasks(request), subject, asked, Transcript())
        iou, consistency = _planned(opened, {}, SilentProgress())
        assert isinstance(asked, BatchChat) == batch
        assert iou.ahead is None
        assert consistency.ahead is (asked if batch else None)


def test_batches_and_calls_one_by_one_are_the_same_judge() -> None:
    assert judge(URL, batch=True).describe() == judge(URL, batch=False).describe()


@pytest.mark.parametrize("ref", [None, "hf:folder", "replay:file"])
def test_who_has_no_batches_is_refused(ref: str | None) -> None:
    with pytest.raises(UsageError, match="--batch"):
        judge(ref, batch=True)


def test_replies_of_before_are_looked_up_unless_that_is_turned_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path))

    assert Calling(reply_cache=False).transcript().kept is None
    kept = Calling().transcript().kept
    assert kept is not None
    assert kept.store.path == tmp_path
