"""`run`'s files, plans, choices and repeats; `export-config` and `score`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from lmmsae_eval.harness.rundir import Run, load_run

Type = Callable[..., Result]
Make = Callable[..., Run]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, make_run: Make) -> list[dict[str, Any]]:
    """What the library is asked, call by call; it gives a toy run of the seed."""
    calls: list[dict[str, Any]] = []

    def run(**options: Any) -> Run:
        calls.append(options)
        return make_run(seed=options["seed"], share=0.5 + options["seed"] / 10)

    monkeypatch.setattr("lmmsae_eval.tasks.session.run", run)
    return calls


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch, in_folder: Path) -> Path:
    """Loading a model or training fails; an empty cache."""

    def loaded(*_: object) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr("lmmsae_eval.tasks.session.open_subject", loaded)
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(in_folder / "cache"))
    return in_folder


def refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_dry_run_says_the_plan_and_leaves_nothing_behind(
    type_command: Type, nothing_loads: Path
) -> None:
    result = type_command("run", "-t", "iou,consistency", "--dry-run")

    assert result.exit_code == 0, result.output
    header, iou, consistency, *rest = result.stdout.splitlines()
    assert header.split()[:3] == ["task", "version", "protocol"]
    assert iou.split() == "iou 2 strict unknown unknown unknown unknown -".split()
    assert consistency.startswith("consistency")
    assert rest[0].startswith("in all: unknown samples, unknown judge calls, unknown minutes")
    assert list(nothing_loads.iterdir()) == []


@pytest.mark.usefixtures("nothing_loads")
def test_a_dry_run_is_told_by_stored_runs_as_json_too(type_command: Type, make_run: Make) -> None:
    run = make_run()
    # The toy's options: a stored run of the same task on the same subject.
    words = ("run", "-t", "consistency", "-s", "toy", "--dry-run", "--json")
    Path("toy").mkdir()
    document = json.loads((run.path / "run.json").read_text())
    extra = {"layers": [], "judge": None, "protocol": "strict", "params": {}}
    config = {**document["config"], **extra}
    (run.path / "run.json").write_text(json.dumps({**document, "config": config}))

    found = json.loads(type_command(*words).stdout)

    (task,) = found["tasks"]
    assert (task["samples"], task["judge_calls"], task["dollars"]) == (60, 0, 0.0)
    assert task["source"] == found["known_run"] == run.id
    assert found["known_status"] == "complete"
    assert json.loads(type_command(*words, "--repeats", "3").stdout)["total"]["samples"] == 180


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-t", "consistancy"), "did you mean 'consistency'"),
        (("-t", "iou", "--protocol", "mine"), "it has strict"),
        (("-t", "iou", "-s", "./nowhere"), "no SAE folder at ./nowhere"),
        (("-t", "iou", "-m", "nowhere"), "no model folder at nowhere"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(
    type_command: Type, words: tuple[str, ...], said: str
) -> None:
    refused(type_command("run", "--dry-run", *words), said)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.toml", 'tasks = "iou,clip"\nsae = ["a", "b"]\nlayers = [2, "model.layers.4"]\n'),
        ("run.yaml", "tasks: [iou, clip]\nsae: [a, b]\nlayers: [2, model.layers.4]\n"),
    ],
)
def test_options_come_from_a_file_and_typed_ones_win(
    type_command: Type, asked: list[dict[str, Any]], name: str, text: str
) -> None:
    Path(name).write_text(text + ("seed = 4\n" if name == "run.toml" else "seed: 4\n"))

    type_command("run", "--config", name)
    type_command("run", "-c", name, "--seed", "5", "-t", "halluc")

    first, second = asked
    assert (first["tasks"], first["saes"], first["seed"]) == (["iou", "clip"], ["a", "b"], 4)
    assert first["layers"] == second["layers"] == [2, "model.layers.4"]
    assert (second["tasks"], second["seed"]) == (["halluc"], 5)


def test_a_files_params_reach_their_tasks(type_command: Type, asked: list[dict[str, Any]]) -> None:
    Path("run.toml").write_text('tasks = ["iou"]\n[params.iou]\nlatents_per_sae = 20\n')

    type_command("run", "-c", "run.toml")

    assert asked[0]["params"] == {"iou": {"latents_per_sae": 20}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('taks = ["iou"]', "unknown option in run.toml: 'taks'; did you mean 'tasks'?"),
        ('config = "x"', "unknown option in run.toml: 'config'"),
        ('tasks = ["iou"]\nmodel = ["a"]', "model takes one value"),
        ('tasks = ["iou"]\n[seed]\na = 1', "seed takes one value"),
        ("tasks = [", "can't read options from run.toml"),
    ],
)
def test_a_file_with_other_options_is_refused(type_command: Type, text: str, said: str) -> None:
    Path("run.toml").write_text(text)

    refused(type_command("run", "-c", "run.toml"), said)


def test_a_value_that_an_option_would_refuse_is_refused_in_a_file(type_command: Type) -> None:
    Path("run.toml").write_text('tasks = ["iou"]\nseed = -1\n')

    result = type_command("run", "-c", "run.toml")

    assert result.exit_code == 2
    assert "--seed" in result.stderr


def test_samples_are_named_or_listed_in_a_file(
    type_command: Type, asked: list[dict[str, Any]]
) -> None:
    Path("ids.txt").write_text("c/1\n\n  d, with a comma\n")

    type_command("run", "-t", "iou", "--samples", "a,b", "--samples", "ids.txt")
    type_command("run", "-t", "iou")

    assert asked[0]["samples"] == ("a", "b", "c/1", "d, with a comma")
    assert asked[1]["samples"] == ()
    Path("none.txt").write_text("\n")
    assert "no sample is named" in type_command("run", "-t", "iou", "--samples", "none.txt").stderr


def test_repeats_are_runs_of_the_next_seeds_and_how_far_they_lie_apart(
    type_command: Type, asked: list[dict[str, Any]]
) -> None:
    result = type_command("run", "-t", "consistency", "--seed", "1", "--repeats", "3")

    assert result.exit_code == 0, result.output
    assert [call["seed"] for call in asked] == [1, 2, 3]
    *_, title, _, row = result.stdout.splitlines()
    assert title == "3 repeats, seeds 1, 2, 3"
    assert row.split()[-5:] == ["0.107", "0.643", "0.857", "0.100", "3"]
    assert result.stdout.count("not added: a repeat") == 2


def test_a_repeat_that_stays_partial_is_the_last_and_ends_with_3(
    type_command: Type, monkeypatch: pytest.MonkeyPatch, make_run: Make
) -> None:
    made: list[Run] = []

    def run(**options: Any) -> Run:
        made.append(make_run(seed=options["seed"], fail_on_error=0))
        return made[-1]

    monkeypatch.setattr("lmmsae_eval.tasks.session.run", run)

    assert type_command("run", "-t", "consistency", "--repeats", "3").exit_code == 3
    assert len(made) == 1


@pytest.mark.usefixtures("asked")
def test_the_end_of_a_run_can_be_read_by_programs(type_command: Type) -> None:
    found = json.loads(type_command("run", "-t", "consistency", "--repeats", "2", "--json").stdout)

    assert [run["seed"] for run in found["runs"]] == [0, 1]
    assert all(Path(run["path"], "run.json").is_file() for run in found["runs"])
    assert found["spread"][0]["values"] == [pytest.approx(15 / 28), pytest.approx(18 / 28)]


def test_export_config_writes_what_was_given(type_command: Type, make_run: Make) -> None:
    run = make_run(seed=7)
    wanted = {"tasks": ["consistency"], "model": "testbed", "sae": ["toy"], "seed": 7}

    assert json.loads(type_command("export-config", run.id, "--json").stdout) == wanted
    assert type_command("export-config", run.id).stdout == (
        f"# Makes {run.id} again: lmmsae-eval run --config FILE\n"
        'tasks = ["consistency"]\nmodel = "testbed"\nsae = ["toy"]\nseed = 7\n'
    )
    refused(type_command("export-config", run.id, "-o", "x.json"), "neither TOML nor YAML")


def test_how_the_model_was_loaded_is_exported_as_it_is_typed() -> None:
    from lmmsae_eval.tasks.exporting import run_options
    from lmmsae_eval.tasks.request import Request

    loading = {"dtype": "bfloat16", "image_tokens": "base"}
    config = Request.of("iou", model="owner/name", loading=loading).document()
    options = run_options(SimpleNamespace(document={"config": config}, path="runs/a"))
    assert options == {"tasks": ["iou"], "model": "owner/name", "protocol": "strict", **loading}


def made(folder: str) -> list[str]:
    """Names of the runs in a folder."""
    return [file.parent.name for file in Path(folder).glob("*/run.json")]


@pytest.mark.slow
def test_a_run_of_an_exported_config_is_the_same_run(type_command: Type, in_folder: Path) -> None:
    from lmmsae_eval.sae.formats import save_sae
    from lmmsae_eval.sae.topk import TopK

    save_sae(TopK.random(64, 128, 4, seed=0), in_folder / "saes" / "model.layers.1")
    words = ("-t", "dissect", "-m", "testbed:planted", "-s", "saes", "--limit", "3")
    first = type_command("run", *words, "--seed", "2")
    assert first.exit_code == 0, first.output
    (name,) = made("runs")
    exported = type_command("export-config", name, "-o", "again.toml")
    assert exported.exit_code == 0, exported.output

    again = type_command("run", "--config", "again.toml")

    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert made("runs") == [name]
    other = type_command("run", "--config", "again.toml", "--seed", "0", "-o", "others")
    assert other.exit_code == 0, other.output
    assert len(made("others")) == 1
    assert made("others") != [name]


def test_score_makes_a_child_and_says_what_was_done(type_command: Type, make_run: Make) -> None:
    run = make_run()

    result = type_command("score", run.id)

    assert result.exit_code == 0, result.output
    *_, done, parent, path = result.stdout.splitlines()
    assert done.startswith("consistency: metrics made again, its samples can't be judged again;")
    assert parent.split() == ["parent", run.id]
    child = load_run(path.split()[-1])
    assert child.document["parent"] == run.id
    assert child.lines("consistency") == run.lines("consistency")
    refused(type_command("export-config", child.id), f"was made from {run.id}")


def test_score_can_be_read_by_programs_and_asks_no_judge_that_there_is_not(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()

    found = json.loads(type_command("score", run.id, "--json").stdout)

    assert found["parent"] == run.id
    assert {"run_id", "path", "status", "done", "metrics"} <= found.keys()
    refused(type_command("score", run.id, "--judge", "openai/gpt-4o"), "OPENAI_API_KEY")
    refused(type_command("score", run.id, "--judge", "nonsense"), "is no chat model")


def test_every_command_that_reads_speaks_json(type_command: Type) -> None:
    reading = [
        *("show", "compare", "power", "check", "ls", "doctor", "report", "score", "run"),
        *("export-config", "baseline show", "cache ls", "cache path", "testbed card"),
    ]
    for command in reading:
        assert "--json" in type_command(*command.split(), "--help").stdout, command
