"""Looking at runs: `show`, `ls runs`, `compare`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from lmmsae_eval.cli.scores import print_scores
from lmmsae_eval.harness.rundir import Run

Type = Callable[..., Result]
Make = Callable[..., Run]


def test_show_prints_score_interval_n_coverage_and_null_on_one_line(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()

    result = type_command("show", run.path)

    heading, header, *rows = result.output.splitlines()
    assert heading == f"{run.id}  complete  60 samples: 56 ok, 2 unscorable, 2 error"
    assert header.split() == "task layer metric score interval n coverage null".split()
    assert [re.split("  +", row) for row in rows] == [
        "consistency|2 (model.layers.1)|True accepted [share]|"
        "0.536|[0.436, 0.636]|28|28/30|0.000".split("|")
    ]


def test_too_few_clusters_are_no_number_in_a_table_as_in_the_report(
    make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    rows = [{**row, "note": "insufficient"} for row in run.metrics]

    print_scores(replace(run, document={**run.document, "metrics": rows}))

    _, header, row = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "null"
    assert row.split()[-5:] == ["insufficient", "–", "28", "28/30", "0.000"]


def test_a_run_is_found_by_its_id_in_the_runs_folder(type_command: Type, make_run: Make) -> None:
    run = make_run()

    assert type_command("show", run.id).output == type_command("show", run.path).output


def test_by_opens_splits_and_sorts_by_them(type_command: Type, make_run: Make) -> None:
    run = make_run()

    shown = json.loads(type_command("show", run.path, "--json", "--by", "concept,arm").output)

    cells = [(row["concept"], row["arm"]) for row in shown["metrics"]]
    assert cells == [(None, "foil"), (None, "main"), ("object", "foil"), ("object", "main")]


def test_by_metric_shows_what_is_no_headline(type_command: Type, make_run: Make) -> None:
    result = type_command("show", make_run().path, "--by", "metric")

    assert "Judged" in result.output


def test_an_unknown_split_is_a_usage_error(type_command: Type, make_run: Make) -> None:
    result = type_command("show", make_run().path, "--by", "colour")

    assert result.exit_code == 2
    assert "'colour' is not one of layer, concept, arm, sae, metric" in result.stderr


def test_failed_lists_the_samples_without_score_and_why(type_command: Type, make_run: Make) -> None:
    result = type_command("show", make_run().path, "--failed")

    assert "consistency  main/29  error       RuntimeError: the judge went away" in result.output
    assert "unscorable" in result.output


def test_control_characters_of_a_models_output_never_reach_the_terminal(
    type_command: Type, make_run: Make
) -> None:
    result = type_command("show", make_run().path, "--failed")

    assert "\x1b" not in result.output
    assert "[31mexplanation" in result.output


def test_json_is_whole_on_stdout(type_command: Type, make_run: Make) -> None:
    run = make_run()

    shown = json.loads(type_command("show", run.path, "--json").stdout)
    failed = json.loads(type_command("show", run.path, "--json", "--failed").stdout)

    assert shown["run_id"] == failed["run_id"] == run.id
    assert [row["n_ok"] for row in shown["metrics"]] == [28]
    assert len(failed["failed"]) == 4


def test_an_unknown_run_is_a_usage_error_with_the_nearest_id(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()

    result = type_command("show", run.id[:-1])

    assert result.exit_code == 2
    assert result.stderr == f"Error: unknown run {run.id[:-1]!r}; did you mean {run.id!r}?\n"


def test_without_any_run_the_next_step_is_named(type_command: Type) -> None:
    result = type_command("show", "nothing")

    assert result.exit_code == 2
    assert "make one with `lmmsae-eval run`" in result.stderr


def test_a_damaged_run_is_a_usage_error(type_command: Type, make_run: Make) -> None:
    run = make_run()
    (run.path / "run.json").write_text("{")

    result = type_command("show", run.path)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_ls_runs_lists_them_oldest_first(type_command: Type, make_run: Make) -> None:
    ids = {make_run(seed=seed).id for seed in (0, 1)}

    listed = json.loads(type_command("ls", "runs", "--json").output)

    assert {row["run"] for row in listed} == ids
    assert {row["samples"] for row in listed} == {60}


def test_ls_runs_counts_what_a_stopped_run_has_so_far(type_command: Type, make_run: Make) -> None:
    run = make_run()
    (run.path / "manifest.json").unlink()
    file = run.path / "samples" / "consistency.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:7]))
    document = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**document, "counts": {}}))

    (row,) = json.loads(type_command("ls", "runs", "--json").output)

    assert (row["status"], row["samples"]) == ("partial", 7)


def test_compare_says_which_run_is_better(type_command: Type, make_run: Make) -> None:
    a, b = make_run(share=0.2), make_run(share=0.9)

    result = type_command("compare", a.path, b.path)
    rows = json.loads(type_command("compare", a.path, b.path, "--json").output)["rows"]

    outcome = {row["metric"]: row["outcome"] for row in rows}
    assert outcome == {"tpr": "better"}
    assert "  <0.001  better" in result.output
    assert "28 pairs" in result.output
    assert "1 test in the family, p corrected after Holm" in result.output


def test_compare_takes_one_sae_of_a_run_and_names_it(type_command: Type, make_run: Make) -> None:
    a, b = make_run(share=0.2), make_run(share=0.9)

    result = type_command("compare", f"{a.id}:toy", f"{b.path}:toy")

    assert result.exit_code == 0, result.output
    assert f"A {a.id}:toy" in result.stdout.splitlines()
    for ref, said in ((f"{a.id}:tyo", "did you mean 'toy'"), ("none:toy", "unknown run 'none'")):
        refused = type_command("compare", a.id, ref)
        assert refused.exit_code == 2
        assert said in refused.stderr


def test_compare_in_markdown_is_a_table_for_a_pull_request(
    type_command: Type, make_run: Make
) -> None:
    runs = [make_run(share=share).path for share in (0.2, 0.9, 0.5)]

    result = type_command("compare", *runs, "--format", "md", "--correction", "bh")

    assert "| task | layer | metric | run | A | run's | run's - A |" in result.output
    assert "| consistency | 2 | tpr | B |" in result.output
    assert "| C |" in result.output
    assert "2 tests in the family, p corrected after Benjamini and Hochberg" in result.output


def test_compare_draws_scores_over_measured_l0(
    type_command: Type, make_run: Make, in_folder: Path
) -> None:
    a, b = make_run(share=0.2, l0=3.5), make_run(share=0.9, l0=7.25)

    result = type_command("compare", a.path, b.path, "--plot", "l0.png")

    assert result.exit_code == 0
    assert "7.250" in result.output
    assert (in_folder / "l0.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_over_l0_needs_l0_and_a_known_ending(type_command: Type, make_run: Make) -> None:
    bare, measured = make_run(share=0.2).path, make_run(share=0.9, l0=2.0).path

    without = type_command("compare", bare, bare, "--plot", "l0.png")
    unknown = type_command("compare", measured, measured, "--plot", "l0.docx")

    assert (without.exit_code, unknown.exit_code) == (2, 2)
    assert "measured L0" in without.stderr
    assert ".png" in unknown.stderr


def test_power_says_how_many_latents_a_difference_needs(type_command: Type, make_run: Make) -> None:
    run = make_run(share=0.5).path
    words = ("power", run, "--metric", "tpr", "--difference", "0.1")

    (row,) = json.loads(type_command(*words, "--json").output)["rows"]

    assert row["n_clusters"] == 28
    assert row["needed_unpaired"] > 300
    assert row["detectable_unpaired"] > 0.3
    assert str(row["needed_unpaired"]) in type_command(*words).output
    assert "left out" not in type_command(*words).output


def test_power_names_the_cells_that_say_too_little_and_why(
    type_command: Type, make_run: Make
) -> None:
    run = make_run(share=0.5, latents=30)
    file = run.path / "samples" / "consistency.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    others = [{**line, "hookpoint": "model.layers.4", "id": f"{line['id']}b"} for line in lines]
    few = [{**line, "hookpoint": "model.layers.7", "id": f"{line['id']}c"} for line in lines[:5]]
    for line in others:
        line["scores"] = dict.fromkeys(line["scores"], 1.0)
    file.write_text("".join(json.dumps(line) + "\n" for line in (*lines, *others, *few)))

    result = type_command("power", run.path, "--metric", "tpr", "--difference", "0.1")

    assert result.stdout.splitlines()[-1] == (
        "left out: consistency at layer 5: 28 clusters, all alike; "
        "consistency at layer 8: 5 clusters, fewer than 20"
    )


def test_power_of_an_unknown_metric_names_the_known_ones(
    type_command: Type, make_run: Make
) -> None:
    result = type_command("power", make_run().path, "--metric", "iuo", "--difference", "0.1")

    assert result.exit_code == 2
    assert "its scores are tpr" in result.stderr


def test_runs_on_other_data_can_not_be_compared(type_command: Type, make_run: Make) -> None:
    a, b = make_run(version=1), make_run(version=2, seed=1)

    result = type_command("compare", a.path, b.path)

    assert result.exit_code == 5
    assert "dataset differs" in result.stderr
