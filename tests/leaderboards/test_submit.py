"""What a board takes, and what it refuses with which code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.errors import InvalidSubmissionError, UsageError
from lmmsae_eval.harness.registry import TASKS
from lmmsae_eval.harness.rundir import Run, RunDirectory
from lmmsae_eval.leaderboards import board as board_module
from lmmsae_eval.leaderboards import load_board, reading, submit, verify, verify_board
from lmmsae_eval.leaderboards.board import sae_slug
from lmmsae_eval.leaderboards.reading import NAME
from lmmsae_eval.leaderboards.refusal import CODES

SAMPLES = "samples/invented.toy.jsonl"


def contents(folder: Path) -> dict[str, bytes]:
    files = (f for f in folder.rglob("*") if f.is_file())
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def refused(run: Run, board: Path, code: str) -> str:
    """The refusal's message, after checking its code, its form and that nothing was written."""
    before = contents(board)
    with pytest.raises(InvalidSubmissionError, match=f"^{code}: ") as raised:
        submit(run, board)
    assert contents(board) == before
    assert raised.value.exit_code == 6
    assert "\n" not in str(raised.value)
    assert code in CODES
    return str(raised.value)


def test_a_sound_run_is_taken_with_samples_compressed_and_pictures_left_out(
    make_run: Any, board: Path
) -> None:
    run = make_run()
    submission = submit(run, board)
    folder = board / "submissions" / "toy-sae" / run.id
    assert submission.added
    assert board / submission.path == folder
    assert set(contents(folder)) == {"run.json", "manifest.json", f"{SAMPLES}.gz"}
    assert (
        gzip.decompress((folder / f"{SAMPLES}.gz").read_bytes())
        == (run.path / SAMPLES).read_bytes()
    )
    assert (folder / "run.json").read_bytes() == (run.path / "run.json").read_bytes()
    assert load_board(board) == [submission]
    assert verify_board(board) == [submission]


def test_the_index_says_its_schema_and_the_tier(make_run: Any, board: Path) -> None:
    submit(make_run(), board, tier="verified")
    index = json.loads((board / "leaderboard.json").read_text())
    assert index["schema_version"] == 1
    assert [entry["tier"] for entry in index["submissions"]] == ["verified"]


def test_judges_replies_travel_along_compressed(make_run: Any, board: Path, tamper: Any) -> None:
    run = make_run()
    (run.path / "judge.jsonl").write_text('{"reply": "1"}\n')
    tamper.run(run, lambda document: document["judge"].update(calls=1))
    folder = board / submit(run, board).path
    assert gzip.decompress((folder / "judge.jsonl.gz").read_bytes()) == b'{"reply": "1"}\n'


@pytest.mark.parametrize("name", ["calls.jsonl", "batches.jsonl"])
def test_how_a_judge_was_called_stays_at_home(
    make_run: Any, board: Path, tamper: Any, name: str
) -> None:
    run = make_run()
    (run.path / name).write_text("{}\n")
    tamper.run(run, lambda document: None)

    folder = board / submit(run, board).path

    assert not list(folder.rglob(f"{name}*"))


def test_the_same_run_submitted_again_changes_nothing_and_says_so(
    make_run: Any, board: Path
) -> None:
    run = make_run()
    first = submit(run, board)
    before = contents(board)
    again = submit(run, board)
    assert (again, again.added) == (first, False)
    assert contents(board) == before


def test_the_same_run_made_anew_at_another_time_is_still_the_same(
    make_run: Any, board: Path, tamper: Any
) -> None:
    submit(make_run(), board)
    anew = tamper.run(make_run(), lambda document: document.update(created="2030-01-01T00:00:00Z"))
    assert not submit(anew, board).added


def test_a_run_on_the_board_can_not_be_replaced_by_another_outcome(
    make_run: Any, board: Path
) -> None:
    submit(make_run(0.5), board)
    otherwise = make_run(0.6, folder="elsewhere", identity={"sae": 0.5, "judge": "labels"})
    assert "never changed" in refused(otherwise, board, "LB013")


def test_a_forged_metric_is_found(make_run: Any, board: Path, tamper: Any) -> None:
    def better(document: dict[str, Any]) -> None:
        document["metrics"][0]["value"] += 1e-6

    assert "value is" in refused(tamper.run(make_run(), better), board, "LB009")


@pytest.mark.parametrize(
    ("key", "value"),
    [("ci_low", 0.49), ("ci_high", None), ("null", 0.0), ("n_ok", 24), ("note", "verified")],
)
def test_every_number_beside_the_score_is_checked_too(
    make_run: Any, board: Path, tamper: Any, key: str, value: Any
) -> None:
    forged = tamper.run(make_run(), lambda document: document["metrics"][0].update({key: value}))
    assert key in refused(forged, board, "LB009")


def test_a_difference_in_the_last_digits_is_no_forgery(
    make_run: Any, board: Path, tamper: Any
) -> None:
    def rounded(document: dict[str, Any]) -> None:
        document["metrics"][0]["value"] += 1e-12

    assert submit(tamper.run(make_run(), rounded), board).added


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["metrics"].pop(),
        lambda document: document["metrics"].append(document["metrics"][0] | {"concept": "sea"}),
        lambda document: document["metrics"].append(document["metrics"][0]),
    ],
    ids=["one left out", "one invented", "one twice"],
)
def test_the_metrics_are_all_that_the_samples_give_and_no_more(
    make_run: Any, board: Path, tamper: Any, change: Callable[[dict[str, Any]], Any]
) -> None:
    refused(tamper.run(make_run(), change), board, "LB009")


def test_a_changed_sample_differs_from_the_manifest(make_run: Any, board: Path) -> None:
    run = make_run()
    file = run.path / SAMPLES
    file.write_text(file.read_text().replace('"score": 0.4', '"score": 0.9', 1))
    assert "was changed" in refused(run, board, "LB007")


def test_a_changed_sample_under_a_new_manifest_differs_from_the_metrics(
    make_run: Any, board: Path, tamper: Any
) -> None:
    def better(lines: list[dict[str, Any]]) -> None:
        lines[0]["scores"]["score"] = 0.99

    refused(tamper.lines(make_run(), better), board, "LB009")


def test_a_sample_left_out_differs_from_the_counts(make_run: Any, board: Path, tamper: Any) -> None:
    refused(tamper.lines(make_run(), lambda lines: lines.pop(0)), board, "LB008")


def test_scores_outside_of_the_metrics_range_are_refused_though_they_add_up(
    make_run: Any, board: Path
) -> None:
    assert "not in 0.0..1.0" in refused(make_run(1.7), board, "LB011")


def test_a_missing_sample_file_is_named(make_run: Any, board: Path, tamper: Any) -> None:
    run = make_run()
    (run.path / SAMPLES).unlink()
    assert SAMPLES in refused(run, board, "LB007")
    assert SAMPLES in refused(tamper.reseal(run), board, "LB007")


@pytest.mark.parametrize("name", ["run.json", "manifest.json"])
def test_without_run_and_manifest_there_is_nothing_to_submit(
    make_run: Any, board: Path, name: str
) -> None:
    run = make_run()
    (run.path / name).unlink()
    refused(run, board, "LB001" if name == "run.json" else "LB006")


@pytest.mark.parametrize("run_id", ["../../escaped", "a/b", "..", ".hidden", "a\nb", "", "C:\\x"])
def test_a_run_id_can_not_lead_out_of_the_board(
    make_run: Any, board: Path, tamper: Any, run_id: str
) -> None:
    forged = tamper.run(make_run(), lambda document: document.update(run_id=run_id))
    refused(forged, board, "LB005")


def test_a_made_up_run_id_does_not_follow_from_the_identity(
    make_run: Any, board: Path, tamper: Any
) -> None:
    forged = tamper.run(make_run(), lambda document: document.update(run_id="the-best-run"))
    refused(forged, board, "LB008")


@pytest.mark.parametrize("name", ["../toy", "/etc/passwd", "a/../../b", "a/b/c"])
def test_a_tasks_name_can_not_lead_out_of_the_board(
    make_run: Any, board: Path, tamper: Any, name: str
) -> None:
    forged = tamper.run(make_run(), lambda document: document["tasks"][0].update(name=name))
    refused(forged, board, "LB005")


@pytest.mark.parametrize(
    "name", ["../run.json", "/etc/passwd", "samples/../../x.jsonl", "samples/.x.jsonl", "run.py"]
)
def test_the_manifest_can_not_name_files_that_a_run_does_not_have(
    make_run: Any, board: Path, tamper: Any, name: str
) -> None:
    forged = tamper.manifest(make_run(), lambda files: files.update({name: "0" * 64}))
    refused(forged, board, "LB005")


def test_links_are_not_followed(make_run: Any, board: Path, tmp_path: Path) -> None:
    run = make_run()
    (run.path / SAMPLES).rename(tmp_path / "elsewhere.jsonl")
    (run.path / SAMPLES).symlink_to(tmp_path / "elsewhere.jsonl")
    refused(run, board, "LB005")


def test_a_saes_name_never_becomes_a_path(make_run: Any, board: Path) -> None:
    run = make_run(saes=[{"name": "../../../etc/cron.d/x"}])
    submission = submit(run, board)
    assert submission.sae == "etc-cron-d-x"
    assert (board / submission.path).resolve().is_relative_to(board.resolve())


@given(st.lists(st.text(max_size=90), max_size=4))
def test_whatever_saes_are_called_their_folder_has_a_plain_name(names: list[str]) -> None:
    slug = sae_slug(names)
    assert NAME.fullmatch(slug)
    assert slug == slug.lower()


@pytest.mark.parametrize(
    ("names", "slug"),
    [
        (["testbed/model.layers.1", "testbed/model.layers.3"], "testbed-model-layers"),
        (["Org/SAE_32k"], "org-sae-32k"),
        (["alpha", "beta", "beta"], "alpha-and-1-more"),
        ([], "no-sae"),
        (["???"], "sae"),
    ],
)
def test_a_runs_saes_are_named_together(names: list[str], slug: str) -> None:
    assert sae_slug(names) == slug


@pytest.mark.parametrize("limit", ["MAX_DOCUMENT", "MAX_FILE", "MAX_TOTAL", "MAX_LINE"])
def test_what_is_too_large_is_refused(
    make_run: Any, board: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    run = make_run()
    for module in (reading, verify, board_module):
        monkeypatch.setattr(module, limit, 100, raising=False)
    refused(run, board, "LB003")


def test_a_small_archive_of_something_large_is_not_unpacked(
    make_run: Any, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = submit(make_run(), board)
    bomb = gzip.compress(b"\0" * 3_000_000)
    (board / submission.path / f"{SAMPLES}.gz").write_bytes(bomb)
    monkeypatch.setattr(verify, "MAX_FILE", 1_000_000)
    with pytest.raises(InvalidSubmissionError, match="LB003"):
        verify_board(board)


def test_deeply_nested_json_is_refused(make_run: Any, board: Path, tamper: Any) -> None:
    deep = "[" * 20 + "]" * 20
    run = tamper.text(make_run(), SAMPLES, '"detail": {}', f'"detail": {{"x": {deep}}}')
    assert "deeper than 16" in refused(run, board, "LB004")
    (run.path / SAMPLES).write_text("[" * 200_000 + "]" * 200_000 + "\n")
    refused(tamper.reseal(run), board, "LB004")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(
    make_run: Any, board: Path, tamper: Any, number: str
) -> None:
    forged = tamper.text(make_run(), "run.json", '"seed": 0', f'"seed": {number}')
    refused(forged, board, "LB004")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("saes"),
        lambda document: document.update(metrics={}),
        lambda document: document.update(schema_version=True),
        lambda document: document.update(tasks=[]),
        lambda document: document["tasks"][0].pop("version"),
        lambda document: document["metrics"][0].update(value="0.9"),
        lambda document: document["metrics"][0].update(n_ok=1.5),
        lambda document: document["saes"].append("x"),
        lambda document: document["tasks"][0]["metrics"].append({"name": "x"}),
    ],
)
def test_a_run_json_of_another_shape_is_refused(
    make_run: Any, board: Path, tamper: Any, change: Callable[[dict[str, Any]], Any]
) -> None:
    refused(tamper.run(make_run(), change), board, "LB002")


def test_a_newer_schema_is_not_guessed_at(make_run: Any, board: Path, tamper: Any) -> None:
    forged = tamper.run(make_run(), lambda document: document.update(schema_version=99))
    assert "schema 99" in refused(forged, board, "LB002")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": "great"}, "LB002"),
        ({"scores": {"score": "high"}}, "LB002"),
        ({"scores": {"score": True}}, "LB002"),
        ({"cluster": 3}, "LB002"),
        ({"task": "another"}, "LB008"),
        ({"protocol": "paper"}, "LB008"),
        ({"scores": {}}, "LB009"),
    ],
)
def test_a_sample_of_another_shape_is_refused(
    make_run: Any, board: Path, tamper: Any, change: dict[str, Any], code: str
) -> None:
    refused(tamper.lines(make_run(), lambda lines: lines[0].update(change)), board, code)


def test_a_torn_last_line_is_refused(make_run: Any, board: Path, tamper: Any) -> None:
    run = make_run()
    file = run.path / SAMPLES
    file.write_bytes(file.read_bytes()[:-5])
    refused(tamper.reseal(run), board, "LB002")


def test_a_limited_run_is_refused_in_one_clear_line(make_run: Any, board: Path) -> None:
    assert "is limited; boards take complete runs only" in refused(
        make_run(limit=22), board, "LB006"
    )


def test_a_partial_run_is_refused(make_run: Any, board: Path) -> None:
    run = make_run()
    (run.path / "manifest.json").unlink()
    assert "is partial" in refused(run, board, "LB006")


def test_what_was_read_earlier_is_not_trusted(make_run: Any, board: Path) -> None:
    limited = make_run(limit=22)
    refused(replace(limited, document={**limited.document, "status": "complete"}), board, "LB006")


def test_a_task_that_is_not_installed_can_not_be_checked(
    make_run: Any, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.delitem(TASKS._registered, "invented/toy")
    refused(run, board, "LB010")


def test_a_task_in_another_version_can_not_be_checked(
    make_run: Any, board: Path, install_version_2: Any
) -> None:
    run = make_run()
    install_version_2()
    assert "installed version 2" in refused(run, board, "LB010")


def test_a_run_can_not_bring_its_own_description_of_a_task(
    make_run: Any, board: Path, tamper: Any
) -> None:
    forged = tamper.run(
        make_run(), lambda document: document["tasks"][0].update(title="The best overlap")
    )
    assert "title of task" in refused(forged, board, "LB010")


def test_a_judged_run_without_the_judges_replies_is_refused(
    make_run: Any, board: Path, tamper: Any
) -> None:
    forged = tamper.run(make_run(), lambda document: document["judge"].update(calls=3))
    assert "0 of 3 replies" in refused(forged, board, "LB012")


def test_an_unknown_tier_is_a_usage_error(make_run: Any, board: Path) -> None:
    with pytest.raises(UsageError, match="community, verified"):
        submit(make_run(), board, tier="gold")


def test_two_writers_do_not_meet(make_run: Any, board: Path) -> None:
    run = make_run()
    with RunDirectory(board).lock(), pytest.raises(UsageError, match="another process"):
        submit(run, board)
    assert submit(run, board).added


def test_a_submission_placed_by_a_killed_process_is_listed_by_the_next(
    make_run: Any, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(board_module, "_write_index", killed)
        with pytest.raises(KeyboardInterrupt):
            submit(run, board)
    submit(run, board)
    assert len(verify_board(board)) == 1


@pytest.mark.parametrize("name", ["run.json", "manifest.json", f"{SAMPLES}.gz"])
def test_a_submission_changed_on_the_board_is_found(make_run: Any, board: Path, name: str) -> None:
    submission = submit(make_run(), board)
    file = board / submission.path / name
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(InvalidSubmissionError, match=r"LB0(13|07|02)"):
        verify_board(board)


def test_a_folder_smuggled_onto_the_board_is_found(make_run: Any, board: Path) -> None:
    submission = submit(make_run(), board)
    (board / submission.path).rename(board / "submissions" / "toy-sae" / "another")
    with pytest.raises(InvalidSubmissionError, match="LB013"):
        verify_board(board)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"run_id": "../../x"}, "LB005"),
        ({"sae": ".."}, "LB005"),
        ({"tier": None}, "LB002"),
    ],
)
def test_the_index_is_not_trusted_either(
    make_run: Any, board: Path, entry: dict[str, Any], code: str
) -> None:
    submit(make_run(), board)
    index = json.loads((board / "leaderboard.json").read_text())
    index["submissions"][0].update(entry)
    (board / "leaderboard.json").write_text(json.dumps(index))
    with pytest.raises(InvalidSubmissionError, match=code):
        load_board(board)


def test_a_folder_that_is_no_board_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="submit a run to make one"):
        load_board(tmp_path)
