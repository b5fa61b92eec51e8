"""`run`: bad input ends in one clear line; a stopped run goes on; a complete one is reused."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from lmmsae_eval.harness.budget import Price
from lmmsae_eval.harness.rundir import Run, load_run

Type = Callable[..., Result]
Make = Callable[..., Run]

PLANTED = ("--model", "testbed:planted")
QUICK = (
    "run",
    "--tasks",
    "dissect",
    *PLANTED,
    "--sae",
    "saes",
    "--limit",
    "3",
    "--progress",
    "plain",
)


@pytest.fixture
def random_sae(in_folder: Path) -> None:
    """`saes/model.layers.1`: never trained, of the planted subject's width."""
    _save(in_folder / "saes", 128)


def _save(folder: Path, d_model: int) -> None:
    from lmmsae_eval.sae.formats import save_sae
    from lmmsae_eval.sae.topk import TopK

    save_sae(TopK.random(64, d_model, 4, seed=0), folder / "model.layers.1")


def _refused(result: Result, said: str, code: int = 2) -> None:
    """One line on stderr after what progress said, the code, nothing on stdout."""
    assert result.exit_code == code, result.output
    *_, error = result.stderr.splitlines()
    assert error.startswith("Error: ")
    assert said in error
    assert result.stdout == ""


@pytest.fixture
def session_gives(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], dict[str, Any]]:
    """Makes the library call give or raise something, and records what it was asked."""

    def arrange(outcome: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {}

        def run(*, tasks: list[str], **options: Any) -> Any:
            asked.update(options, tasks=tasks)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr("lmmsae_eval.tasks.session.run", run)
        return asked

    return arrange


def test_an_unknown_task_is_refused_with_what_was_probably_meant(type_command: Type) -> None:
    _refused(type_command("run", "-t", "consistancy"), "did you mean 'consistency'?")


def test_no_task_is_a_usage_error(type_command: Type) -> None:
    result = type_command("run")

    assert result.exit_code == 2
    assert "--tasks" in result.stderr


def test_a_missing_model_is_refused(type_command: Type) -> None:
    words = ("-m", "./no-such-model", "-l", "1")
    _refused(type_command("run", "-t", "dissect", *words), "no model folder")


def test_a_missing_sae_is_refused(type_command: Type) -> None:
    result = type_command("run", "-t", "dissect", *PLANTED, "-s", "no-such-sae")

    _refused(result, "no SAE folder at no-such-sae")


def test_an_sae_of_another_width_is_refused(type_command: Type, in_folder: Path) -> None:
    _save(in_folder / "saes", 32)

    result = type_command("run", "-t", "dissect", *PLANTED, "-s", "saes")

    _refused(result, "reads d_model 32 but")


@pytest.mark.parametrize("layer", ["99", "0", "model.layers.99", "last"])
def test_a_layer_that_the_model_does_not_have_is_refused(layer: str, type_command: Type) -> None:
    _refused(type_command("run", "-t", "dissect", *PLANTED, "-l", layer), "is no layer of")


def test_an_unknown_protocol_is_refused_with_those_that_there_are(type_command: Type) -> None:
    _refused(type_command("run", "-t", "iou", "--protocol", "mine"), "it has")


def test_a_judge_without_its_key_is_refused_by_the_keys_name(type_command: Type) -> None:
    result = type_command("run", "-t", "consistency", "--judge", "openai/gpt-4o")

    _refused(result, "OPENAI_API_KEY")


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "x"])
def test_a_limit_is_a_count_or_a_share(limit: str, type_command: Type) -> None:
    result = type_command("run", "-t", "iou", "--limit", limit)

    assert result.exit_code == 2
    assert "--limit" in result.stderr


def test_a_folder_that_can_not_be_written_is_refused_before_anything_is_loaded(
    type_command: Type, in_folder: Path
) -> None:
    (in_folder / "file").touch()

    _refused(type_command("run", "-t", "dissect", "-o", "file/runs"), "choose another folder")


def test_a_full_disk_is_incomplete_and_resumable(
    type_command: Type, random_sae: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lmmsae_eval.harness.writing._cut_torn_tail", full)

    _refused(type_command(*QUICK), "free some space and type the same command again", code=3)


@pytest.mark.parametrize(
    ("tasks", "segmenter", "says"),
    [
        ("halluc", "released", "is for the tasks iou, detect and fuzz"),
        ("iou", "one", "name 'exact' or DETECTOR"),
    ],
)
def test_a_segmenter_that_can_not_be_used_is_refused(
    type_command: Type, tasks: str, segmenter: str, says: str
) -> None:
    _refused(type_command("run", "-t", tasks, "--segmenter", segmenter), says)


def test_what_was_typed_reaches_the_library(type_command: Type, session_gives: Any) -> None:
    asked = session_gives(KeyboardInterrupt())
    for name in "ds":
        Path(name).mkdir()

    type_command(
        *("run", "-t", "iou,clip", "--tasks", "halluc,iou", "-l", "2,model.layers.4", "-s", "a"),
        *("--sae", "b", "--limit", "0.5", "--seed", "3", "--output_dir", "x", "--judge", "y"),
        *("--segmenter", "d+s", "--explainer", "e", "--second-labeller", "f"),
        *("--pooling", "max", "--near-duplicates", "4", "--clip", "open_clip:n/w"),
        *("--dtype", "bfloat16", "--image-tokens", "base"),
        *("--concurrency", "9", "--cost-limit", "5"),
        *("--judge-price", "2.5", "10"),
        *("--questions", "q.json", "--images", "z.zip"),
    )

    assert asked.pop("progress")
    assert asked.pop("policy").concurrency == 9
    assert asked.pop("cost_limit") == (5, Price(2.5, 10))
    params = asked.pop("params")
    assert params["iou"]["segmenter"]["ref"] == "d+s"
    assert params["clip"]["clip"]["ref"] == "open_clip:n/w"
    for task in ("iou", "clip"):
        assert (params[task]["pooling"], params[task]["near_duplicates"]) == ("max", 4)
    assert "halluc" not in params
    assert asked == {
        "tasks": ["iou", "clip", "halluc"],
        "saes": ["a", "b"],
        "layers": [2, "model.layers.4"],
        "model": "testbed",
        "loading": {"dtype": "bfloat16", "image_tokens": "base"},
        "judge": "y",
        "protocol": "strict",
        "output_dir": Path("x"),
        "seed": 3,
        "limit": 0.5,
        "samples": (),
        "questions": "q.json",
        "images": "z.zip",
        "roles": {
            "explainer": "e",
            "refiner": None,
            "labeller": None,
            "second_labeller": "f",
        },
        "prompt_file": None,
        "explanations": None,
        "image_set": None,
        "label_names": None,
        "batch": False,
        "reply_cache": True,
    }


def test_ctrl_c_is_130_and_says_how_to_go_on(
    type_command: Type, session_gives: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_gives(KeyboardInterrupt())
    monkeypatch.setattr(sys, "argv", ["lmmsae-eval", "run", "-t", "iou", "-s", "my saes"])

    result = type_command("run", "-t", "iou")

    _refused(result, "go on with: lmmsae-eval run -t iou -s 'my saes'", code=130)


def test_the_end_is_a_table_and_the_paths_of_run_report_and_board(
    type_command: Type, session_gives: Any, make_run: Make
) -> None:
    run = make_run()
    session_gives(run)

    result = type_command("run", "-t", "consistency")

    *_, score, path, report, board = result.stdout.splitlines()
    assert "0.536  [0.436, 0.636]  28     28/30  0.000" in score
    assert path.split() == ["run", str(run.path)]
    assert Path(report.split()[-1]).is_file()
    # The toy is not the real task, which makes other metrics of its lines: the board notices.
    assert board.startswith("leaderboard  not added: LB")
    assert result.exit_code == 0


def test_a_partial_run_ends_with_3(type_command: Type, session_gives: Any, make_run: Make) -> None:
    session_gives(make_run(fail_on_error=0))

    result = type_command("run", "-t", "consistency")

    assert result.exit_code == 3
    assert "2 samples broke" in result.stderr
    assert "show" in result.stderr
    assert "0.536" in result.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("random_sae")
def test_typed_again_a_complete_run_is_read_and_not_made_again(type_command: Type) -> None:
    first, second = type_command(*QUICK), type_command(*QUICK)

    assert first.exit_code == second.exit_code == 0, first.output
    assert first.stdout == second.stdout
    assert "listing samples" in first.stderr
    assert "listing samples" not in second.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("random_sae")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_goes_on_when_typed_again(
    sent: signal.Signals, type_command: Type, in_folder: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from lmmsae_eval.cli.main import main; main()", *QUICK],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=in_folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for _ in _until(process.stderr, "dissect: listing samples"):
        pass
    process.send_signal(sent)
    _, rest = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "interrupted; what was done is kept, go on with: lmmsae-eval" in rest
    (folder,) = Path("runs").iterdir()
    assert load_run(folder).status == "partial"

    result = type_command(*QUICK)

    assert result.exit_code == 0, result.output
    assert load_run(folder).status == "limited"


def _until(stream: Any, text: str) -> Iterator[str]:
    for line in stream:
        yield line
        if text in line:
            return
    pytest.fail(f"never said {text!r}")


@pytest.mark.slow
@pytest.mark.usefixtures("random_sae")
def test_a_limited_run_is_marked_and_not_put_on_the_board(type_command: Type) -> None:
    result = type_command(*QUICK)

    assert "limited" in result.stdout
    assert "leaderboard  not added" in result.stdout
    assert not Path("leaderboard").exists()
    (listed,) = json.loads(type_command("ls", "runs", "--json").stdout)
    assert listed["status"] == "limited"
