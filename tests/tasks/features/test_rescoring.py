"""`score`: other judges, the same stored pictures, no model; or the same metrics once more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import (
    ChatError,
    IncompleteError,
    NotComparableError,
    UsageError,
)
from lmmsae_eval.harness.chat import Reply
from lmmsae_eval.harness.compare import compare
from lmmsae_eval.harness.plan import Plan, PlannedTask
from lmmsae_eval.harness.question import Form, new_entry
from lmmsae_eval.harness.registry import TESTBEDS
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.runner import execute
from lmmsae_eval.tasks import rescoring
from lmmsae_eval.tasks.chats import LABEL_JUDGE
from lmmsae_eval.tasks.consistency import Consistency
from lmmsae_eval.tasks.features.masks import packed, unpacked
from lmmsae_eval.tasks.features.probes import ORDERS, REPEATED
from lmmsae_eval.tasks.iou import Iou
from lmmsae_eval.tasks.rescoring import rescore, what_was_done

NAME = "tests/drawn"
DATASET = {"id": NAME, "revision": "drawn-1", "seed": 0, "n_search": 120, "n_score": 60}
Make = Callable[..., Run]


class Chat:
    """A chat model with one answer that remembers what it was asked."""

    ref = "chat"
    concurrency = 1

    def __init__(self, answer: str = "1", breaks_after: int | None = None) -> None:
        self.answer, self.breaks_after = answer, breaks_after
        self.asked: list[tuple[str, list[Any], str]] = []
        self.forms: list[Form] = []

    def ask(
        self, system: str, parts: Sequence[Any], key: str, form: Form, *, fresh: bool = False
    ) -> Reply:
        if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
            raise ChatError("chat did not answer")
        self.asked.append((system, list(parts), key))
        self.forms.append(form)
        in_form = self.answer in ("0", "1")
        said = form.example(form.answers[int(self.answer)]) if in_form else self.answer
        return Reply(said, "chat-1")

    def describe(self) -> dict[str, Any]:
        return {"provider": "test", "requested": "chat"}

    def comparable(self) -> dict[str, Any]:
        return self.describe()


@pytest.fixture
def parent(study_context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A complete run of `iou` and `consistency` on the drawn world, by the labels or a chat."""
    provider = study_context().subject.provider
    monkeypatch.setitem(TESTBEDS._registered, NAME, lambda: provider)

    def make(
        chat: Chat | None = None, tasks: Sequence[Any] = (Iou, Consistency), lmm: Any = None
    ) -> Run:
        context = study_context(lmm=lmm)
        context.subject.make_judge = (lambda: chat) if chat else None
        judge = chat.describe() if chat else LABEL_JUDGE
        planned = [
            PlannedTask(task(), context, comparability={"judge": judge} if task != Iou else {})
            for task in tasks
        ]
        identity = {"judge": judge}
        plan = Plan(planned, tmp_path / "runs", identity, {"data": "d"}, dataset=DATASET)
        plan.judge = judge
        return execute(plan)

    return make


@pytest.fixture
def asks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Chat], Chat]:
    """Every judge that is named is this chat."""

    def arrange(chat: Chat) -> Chat:
        monkeypatch.setattr(rescoring, "open_chat", lambda *_: chat)
        return chat

    return arrange


def scores(run: Run, task: str = "consistency") -> dict[str, Any]:
    """Of the items: probes have scores of their own kind."""
    lines = [line for line in run.lines(task) if line["arm"] not in (*ORDERS, REPEATED)]
    return {line["id"]: (line["status"], line["scores"]) for line in lines}


def seen(chat: Chat) -> dict[str, Any]:
    """By item what the judge was shown: texts, and pictures by their pixels."""
    return {
        key: (system, [part if isinstance(part, str) else part.tobytes() for part in parts])
        for system, parts, key in chat.asked
    }


def snapshot(run: Run) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in [run.path, *run.path.rglob("*")]}


def test_another_judge_is_shown_exactly_what_the_first_one_was(
    parent: Make, asks: Any, tmp_path: Path
) -> None:
    first = Chat("1")
    run = parent(first)
    second = asks(Chat("0"))

    child = rescore(run, "openai/other", tmp_path / "runs")

    assert seen(second) == seen(first)
    assert child.complete
    assert set(map(str, scores(child).values())) == {
        str(("ok", {"tpr": 0.0})),
        str(("ok", {"fpr": 0.0})),
    }
    assert child.document["parent"] == run.id
    assert child.document["judge"]["requested"] == "chat"
    assert what_was_done(run, child) == [
        "iou: metrics made again, its samples can't be judged again; all as before",
        "consistency: judged again; 48 of 48 samples came out otherwise",
    ]


def test_the_testbeds_own_judge_says_of_stored_pictures_what_it_says_in_a_run(
    parent: Make, tmp_path: Path
) -> None:
    by_chat, by_labels = parent(Chat("1")), parent()

    child = rescore(by_chat, "labels", tmp_path / "runs")

    assert scores(child) == scores(by_labels)
    assert compare(by_labels, child).rows


def test_a_recording_of_another_judge_is_replayed_by_content(parent: Make, tmp_path: Path) -> None:
    elsewhere = Chat("0")
    parent(elsewhere)
    entries = [
        new_entry("judge", "openai/x", system, parts, key, form)
        | {"reply": form.example(form.answers[0]), "served": "x-1", "usage": {}}
        for (system, parts, key), form in zip(elsewhere.asked, elsewhere.forms, strict=True)
    ]
    file = tmp_path / "judge.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    child = rescore(parent(), f"replay:{file}", tmp_path / "runs")

    assert {value for _, found in scores(child).values() for value in found.values()} == {0.0}
    assert len(child.judge()) == len(entries)


def test_without_a_judge_the_metrics_are_made_again_and_are_the_same(
    parent: Make, tmp_path: Path
) -> None:
    run = parent()
    before = snapshot(run)

    child = rescore(run, output_dir=tmp_path / "runs")

    assert child.id != run.id
    assert child.metrics == run.metrics
    assert scores(child) == scores(run)
    assert scores(child, "iou") == scores(run, "iou")
    assert snapshot(run) == before
    assert {row.outcome for row in compare(run, child).rows} <= {"tied", "insufficient"}
    assert all("all as before" in line for line in what_was_done(run, child))


def test_a_run_by_another_judge_is_not_comparable_with_its_parent(
    parent: Make, asks: Any, tmp_path: Path
) -> None:
    run = parent()
    asks(Chat("1"))

    with pytest.raises(NotComparableError, match="judge differs"):
        compare(run, rescore(run, "openai/other", tmp_path / "runs"))


def test_cards_are_kept_with_the_scores_of_now(parent: Make, asks: Any, tmp_path: Path) -> None:
    run = parent()
    asks(Chat("0"))

    child = rescore(run, "openai/other", tmp_path / "runs")

    assert child.cards("iou") == run.cards("iou") != []
    assert [card["sample"] for card in child.cards("consistency")] == [
        card["sample"] for card in run.cards("consistency")
    ]
    for card in child.cards("consistency"):
        assert set(card["scores"].values()) == {0.0}
        (old,) = (c for c in run.cards("consistency") if c["sample"] == card["sample"])
        pixels = [
            (r.path / c["images"][0]["path"]).read_bytes() for r, c in ((run, old), (child, card))
        ]
        assert pixels[0] == pixels[1]


def test_a_judge_that_goes_away_leaves_a_child_that_goes_on(
    parent: Make, asks: Any, tmp_path: Path
) -> None:
    run = parent()
    asks(Chat("0", breaks_after=5))
    assert rescore(run, "openai/other", tmp_path / "runs").status == "partial"

    asks(Chat("0"))
    child = rescore(run, "openai/other", tmp_path / "runs")

    assert child.complete
    assert {value for _, found in scores(child).values() for value in found.values()} == {0.0}


def test_the_same_call_again_reads_the_child(parent: Make, asks: Any, tmp_path: Path) -> None:
    run = parent()
    asks(Chat("0"))
    child = rescore(run, "openai/other", tmp_path / "runs")
    before = snapshot(child)
    silent = asks(Chat("1"))

    assert rescore(run, "openai/other", tmp_path / "runs").path == child.path
    assert snapshot(child) == before
    assert silent.asked == []


def test_items_that_nobody_could_judge_stay_so(
    world: Any, parent: Make, asks: Any, tmp_path: Path
) -> None:
    run = parent(lmm=world.SeeingLMM(says="unclear"))
    chat = asks(Chat("1"))

    child = rescore(run, "openai/other", tmp_path / "runs")

    assert chat.asked == []
    assert scores(child) == scores(run)


def test_what_can_not_be_judged_again_is_said(parent: Make, asks: Any, tmp_path: Path) -> None:
    asks(Chat())
    with pytest.raises(UsageError, match="no task that a judge can be asked of again"):
        rescore(parent(tasks=(Iou,)), "openai/other", tmp_path / "runs")


def test_a_partial_run_is_refused(parent: Make, tmp_path: Path) -> None:
    run = parent()
    (run.path / "manifest.json").unlink()
    with pytest.raises(IncompleteError, match="is partial"):
        rescore(run, output_dir=tmp_path / "runs")


def test_a_run_of_before_keeps_no_pictures(parent: Make, asks: Any, tmp_path: Path) -> None:
    run = parent()
    file = run.path / "samples" / "consistency.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["detail"].pop("lit")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asks(Chat())

    with pytest.raises(UsageError, match="keeps no pictures of consistency"):
        rescore(run, "openai/other", tmp_path / "runs")


def test_other_images_are_not_judged_in_place_of_the_runs_own(
    parent: Make, asks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parent()
    provider = TESTBEDS.get(NAME)()
    monkeypatch.setattr(provider, "revision", "drawn-2", raising=False)
    asks(Chat())

    with pytest.raises(NotComparableError, match=r"'drawn-1', installed are 'drawn-2'"):
        rescore(run, "openai/other", tmp_path / "runs")


def test_the_model_under_study_is_not_at_hand() -> None:
    with pytest.raises(UsageError, match="not loaded here"):
        rescoring._Absent().forward  # noqa: B018


def test_a_mask_comes_back_from_its_text_and_fits_no_other_picture() -> None:
    import numpy as np

    mask = np.random.default_rng(0).random((7, 13)) < 0.3
    assert (unpacked(packed(mask), (13, 7)) == mask).all()
    with pytest.raises(ValueError, match="does not fit"):
        unpacked(packed(mask), (13, 9))
    with pytest.raises(ValueError, match="does not fit"):
        unpacked(packed(np.zeros((4000, 4000), bool)), (13, 7))
