"""What a run does when all goes well and when something breaks."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import (
    BadImageError,
    ChatError,
    IncompleteError,
    LmmsaeEvalError,
    UsageError,
)
from lmmsae_eval.harness import runner
from lmmsae_eval.harness.rundir import RunDirectory, load_run
from lmmsae_eval.harness.runner import Plan, execute
from lmmsae_eval.harness.task import Outcome, Sample

Make = Callable[..., Plan]


def score(sample: Sample) -> float:
    return int(sample.id[1:]) / 10


def breaks_on(*names: str, error: type[BaseException] = RuntimeError) -> Callable[[Sample], float]:
    def subject(sample: Sample) -> float:
        if sample.id in names:
            raise error(f"{sample.id} broke")
        return score(sample)

    return subject


def statuses(run: Any) -> dict[str, str]:
    return {line["id"]: line["status"] for line in run.lines("toy/mean")}


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in [*files, folder]}


def test_every_sample_becomes_one_line_and_the_metric_is_their_mean(plan: Make) -> None:
    run = execute(plan())

    assert run.status == "complete"
    assert [line["id"] for line in run.lines("toy/mean")] == [f"s{i}" for i in range(10)]
    (row,) = run.metrics
    assert row["value"] == pytest.approx(0.45)
    assert (row["n_ok"], row["n_total"], row["coverage"]) == (10, 10, 1.0)
    assert row["ci_low"] < 0.45 < row["ci_high"]


def test_a_metric_row_says_task_protocol_layer_cluster_and_direction(plan: Make) -> None:
    (row,) = execute(plan()).metrics

    assert row["task"] == "toy/mean"
    assert row["protocol"] == "strict"
    assert (row["hookpoint"], row["layer"]) == ("model.layers.3", 4)
    assert row["cluster"] == "pair"
    assert row["higher_is_better"] is True


def test_an_exception_in_one_sample_of_a_batch_errors_only_that_sample(plan: Make) -> None:
    run = execute(plan(breaks_on("s5"), fail_on_error=1))

    assert [name for name, status in statuses(run).items() if status == "error"] == ["s5"]
    (broken,) = [line for line in run.lines("toy/mean") if line["id"] == "s5"]
    assert broken["scores"] == {}
    assert broken["error"] == {"type": "RuntimeError", "message": "s5 broke"}
    assert run.metrics[0]["value"] == pytest.approx((4.5 - 0.5) / 9)
    assert run.metrics[0]["coverage"] == pytest.approx(0.9)


@pytest.mark.parametrize("said", [float("nan"), float("inf"), "much", None])
def test_what_is_not_a_finite_number_is_an_error_and_never_a_score(plan: Make, said: Any) -> None:
    run = execute(plan(lambda s: said if s.id == "s2" else score(s)))

    assert statuses(run)["s2"] == "error"
    assert list(statuses(run).values()).count("error") == 1
    assert run.metrics[0]["n_ok"] == 9


def test_a_detail_that_is_not_json_is_an_error_of_its_sample_alone(plan: Make) -> None:
    run = execute(plan(lambda s: Outcome.ok({"score": 1.0}, raw=object() if s.id == "s0" else "x")))

    assert [name for name, status in statuses(run).items() if status == "error"] == ["s0"]


def test_an_error_that_the_task_declares_keeps_no_scores(plan: Make) -> None:
    outcome = Outcome("error", {"score": 0.7}, error="detector crashed")
    run = execute(plan(lambda s: outcome if s.id == "s1" else score(s)))

    line = run.lines("toy/mean")[1]
    assert line["scores"] == {}
    assert line["error"]["message"] == "detector crashed"


def test_a_task_that_returns_too_few_outcomes_scores_nothing(plan: Make, toy: Any) -> None:
    class Short(toy):  # type: ignore[misc]
        def evaluate(self, samples: Any, context: Any) -> Any:
            return super().evaluate(samples, context)[:-1]

    run = execute(plan(task=Short()))

    assert set(statuses(run).values()) == {"error"}
    assert run.metrics[0]["value"] is None


def test_a_run_with_errors_stays_partial_and_the_next_call_retries_them(
    plan: Make, toy: Any
) -> None:
    first = execute(plan(breaks_on("s5")))
    assert first.status == "partial"
    assert first.metrics[0]["n_ok"] == 9

    again = toy()
    second = execute(plan(task=again))

    assert second.path == first.path
    assert second.status == "complete"
    assert second.metrics[0]["value"] == pytest.approx(0.45)
    assert again.evaluated == [["s4", "s5", "s6", "s7"]]
    assert [line["id"] for line in second.lines("toy/mean")] == [f"s{i}" for i in range(10)]


@pytest.mark.parametrize(
    ("tolerated", "status"), [(0, "partial"), (1, "partial"), (2, "complete"), (0.2, "complete")]
)
def test_tolerated_errors_let_a_run_complete(plan: Make, tolerated: float, status: str) -> None:
    assert execute(plan(breaks_on("s1", "s8"), fail_on_error=tolerated)).status == status


def test_a_complete_run_is_returned_untouched(plan: Make, toy: Any) -> None:
    before = snapshot(execute(plan()).path)

    again = toy()
    run = execute(plan(task=again))

    assert snapshot(run.path) == before
    assert again.evaluated == []


@pytest.mark.parametrize(
    "change",
    [
        {"identity": {"model": "other"}},
        {"seed": 1},
        {"limit": 2},
        {"params": {"threshold": 0.5}},
        {"parent": "another run"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_identity_gives_another_directory(plan: Make, change: dict[str, Any]) -> None:
    assert plan(**change).path != plan().path


def test_a_bumped_version_or_another_protocol_gives_another_directory(plan: Make, toy: Any) -> None:
    from dataclasses import replace

    class Newer(toy):  # type: ignore[misc]
        spec = replace(toy.spec, version=2)

    paper = plan()
    paper.tasks[0].context.protocol = "paper"

    assert len({plan().path, plan(task=Newer()).path, paper.path}) == 3


def test_what_cannot_change_an_outcome_leaves_the_directory_alone(plan: Make) -> None:
    assert plan(config={"progress": "plain"}, fail_on_error=3).path == plan().path


def test_a_foreign_run_in_the_same_folder_is_refused(plan: Make) -> None:
    run = execute(plan())
    document = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(document | {"identity_sha256": "0" * 64}))

    with pytest.raises(UsageError, match="another run"):
        execute(plan())


def test_duplicate_sample_ids_are_a_bug_of_the_task(plan: Make, toy: Any) -> None:
    with pytest.raises(LmmsaeEvalError, match=r"two samples are called 's1'") as caught:
        execute(plan(task=toy(["s0", "s1", "s1"])))
    assert caught.value.exit_code == 1


def test_samples_that_differ_between_calls_are_a_bug_of_the_task(plan: Make, toy: Any) -> None:
    execute(plan(breaks_on("s1"), toy(["s0", "s1"])))

    with pytest.raises(LmmsaeEvalError, match="fixed by the seed"):
        execute(plan(task=toy(["s7", "s8"])))


@pytest.mark.parametrize("error", [UsageError, IncompleteError])
def test_what_is_wrong_with_the_whole_command_stops_it_and_keeps_what_was_done(
    plan: Make, error: type[Exception]
) -> None:
    with pytest.raises(error):
        execute(plan(breaks_on("s6", error=error)))

    run = load_run(plan().path)
    assert run.status == "partial"
    assert list(statuses(run)) == ["s0", "s1", "s2", "s3"]
    assert execute(plan()).status == "complete"


@pytest.mark.parametrize("error", [BadImageError, ChatError, OSError, MemoryError])
def test_what_is_wrong_with_one_sample_stays_with_it(plan: Make, error: type[Exception]) -> None:
    run = execute(plan(breaks_on("s6", error=error)))

    assert [name for name, status in statuses(run).items() if status == "error"] == ["s6"]


def test_many_errors_in_a_row_stop_the_run_with_the_last_reason(
    plan: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "GIVE_UP_AFTER", 3)

    with pytest.raises(IncompleteError, match="errors in a row, the last one: s7 broke"):
        execute(plan(breaks_on("s5", "s6", "s7", "s8", "s9")))

    assert load_run(plan().path).status == "partial"
    assert execute(plan()).status == "complete"


def test_ctrl_c_leaves_a_partial_run_that_the_same_command_completes(plan: Make) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(plan(breaks_on("s6", error=KeyboardInterrupt)))

    partial = load_run(plan().path)
    assert partial.status == "partial"
    assert partial.metrics == []
    assert len(statuses(partial)) == 4
    assert execute(plan()).metrics[0]["value"] == pytest.approx(0.45)


def test_sigterm_ends_a_run_as_ctrl_c_does_and_its_handler_is_put_back(plan: Make) -> None:
    def terminated(sample: Sample) -> float:
        if sample.id == "s6":
            os.kill(os.getpid(), signal.SIGTERM)
        return score(sample)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        execute(plan(terminated))

    assert signal.getsignal(signal.SIGTERM) is before
    assert load_run(plan().path).status == "partial"


def test_a_run_in_another_thread_leaves_the_signal_handlers_alone(plan: Make) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(execute(plan())))
    thread.start()
    thread.join()

    assert results[0].complete


def test_a_resumed_batch_is_evaluated_as_a_whole_and_only_what_is_missing_is_written(
    plan: Make, toy: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(plan(breaks_on("s8", error=KeyboardInterrupt)))
    file = plan().path / "samples" / "toy.mean.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:6]))

    again = toy()
    run = execute(plan(task=again))

    assert again.evaluated == [["s4", "s5", "s6", "s7"], ["s8", "s9"]]
    assert len(file.read_text().splitlines()) == 10
    assert run.metrics[0]["value"] == pytest.approx(0.45)


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_is_tolerated_and_its_sample_scored_again(plan: Make, kept: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(plan(breaks_on("s8", error=KeyboardInterrupt)))
    file = plan().path / "samples" / "toy.mean.jsonl"
    *whole, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole) + last[:kept])

    assert len(statuses(load_run(plan().path))) == 7
    run = execute(plan())

    assert [line["id"] for line in run.lines("toy/mean")] == [f"s{i}" for i in range(10)]
    assert run.complete


def test_a_run_whose_manifest_was_never_written_is_sealed_without_work(
    plan: Make, toy: Any
) -> None:
    run = execute(plan())
    (run.path / "manifest.json").unlink()
    assert load_run(run.path).status == "partial"

    again = toy()
    assert execute(plan(task=again)).status == "complete"
    assert again.evaluated == []


def test_a_second_process_cannot_write_the_same_run(plan: Make) -> None:
    directory = RunDirectory(plan().path)

    with directory.lock(), pytest.raises(UsageError, match="another process"):
        execute(plan())


def test_a_limit_keeps_whole_clusters_and_marks_the_run(plan: Make) -> None:
    run = execute(plan(limit=2))

    assert run.status == "limited"
    assert list(statuses(run)) == ["s0", "s1", "s2", "s3"]


def test_an_output_folder_that_is_a_file_is_a_usage_error(plan: Make, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    with pytest.raises(UsageError, match="choose another folder"):
        execute(plan(directory=tmp_path / "taken"))


def test_a_sealed_directory_refuses_to_be_written(plan: Make) -> None:
    directory = RunDirectory(execute(plan()).path)

    with pytest.raises(LmmsaeEvalError, match="never written again"):
        directory.write_document({})
    with pytest.raises(LmmsaeEvalError, match="never written again"):
        directory.append("toy/mean", [{"id": "x"}])


def test_run_json_names_what_made_the_run(plan: Make) -> None:
    document = execute(plan(saes=[{"name": "toy", "k": 4}], config={"tasks": "toy"})).document

    assert document["schema_version"] == 1
    assert document["run_id"].startswith("toy.mean-")
    assert document["saes"] == [{"name": "toy", "k": 4}]
    assert document["config"] == {"tasks": "toy"}
    assert document["counts"]["toy/mean"] == {"ok": 10, "unscorable": 0, "error": 0, "total": 10}
    assert {"python", "platform", "packages"} <= document["env"].keys()
    assert {"version", "commit", "dirty"} <= document["harness"].keys()
    (task,) = document["tasks"]
    assert {"name", "version", "fingerprint", "package", "params", "metrics"} <= task.keys()


def test_cards_and_plots_are_stored_for_the_reports(plan: Make) -> None:
    run = execute(plan())

    (card,) = run.cards("toy/mean")
    assert card["images"][0]["caption"] == "black"
    assert (run.path / card["images"][0]["path"]).read_bytes().startswith(b"\x89PNG")
    assert run.plots("toy/mean")[0]["points"] == [{"x": "score", "y": pytest.approx(0.45)}]
