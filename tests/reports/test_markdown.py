"""The report as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.reports.facts import facts, notes, plain
from lmmsae_eval.reports.failures import SHOWN, failures
from lmmsae_eval.reports.markdown import escape, render_markdown
from lmmsae_eval.reports.table import score_rows
from lmmsae_eval.reports.view import render_json


def test_markdown_holds_scores_grids_failures_and_limits(run: Run) -> None:
    text = render_markdown(run)
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        f"# {run.id}",
        "## SAEs",
        "## Scores",
        "## Toy overlap",
        "### IoU by concept",
        "### IoU by arm",
        "### Share above half by arm",
        "### Not scored",
        "## What these numbers are not",
    ]
    assert "insufficient n=4/4" in text
    assert "4 (model.layers.3)" in text


def test_every_line_of_a_markdown_table_has_as_many_cells_as_its_header(run: Run) -> None:
    width = 0
    for line in render_markdown(run).splitlines():
        cells = line.replace("\\|", "").count("|")
        assert cells in (0, width) or width == 0, line
        width = cells


def test_no_explanation_is_markup_in_markdown(run: Run) -> None:
    text = render_markdown(run)
    assert "<script>" not in text
    assert "\\<script\\>" in text


@given(st.text())
def test_escaped_text_is_one_line_without_live_markup(text: str) -> None:
    escaped = escape(text)
    assert "\n" not in escaped
    live = escaped.replace("\\\\", "")
    for sign in "<|`*[":
        assert live.count(sign) == live.count("\\" + sign)


def test_json_holds_every_metric_and_every_failure(run: Run) -> None:
    report = json.loads(json.dumps(render_json(run), allow_nan=False))
    (task,) = report["tasks"]
    assert task["metrics"] == run.metrics
    assert task["headline"] == ["score"]
    assert sum(failure["count"] for failure in task["failures"]) == 37
    assert report["run_id"] == run.id
    assert report["facts"]["protocol"] == "strict"


def test_failures_are_grouped_by_reason_with_what_broke_first() -> None:
    def line(i: int, status: str, **extra: object) -> dict[str, object]:
        return {"id": str(i), "status": status, "error": None, "detail": {}, **extra}

    silent = [line(i, "unscorable", detail={"reason": "silent"}) for i in range(SHOWN + 5)]
    error = {"type": "ValueError", "message": "bad"}
    groups = failures("toy", [line(90, "ok"), *silent, line(99, "error", error=error)])
    assert [(g.status, g.reason, g.count, g.more) for g in groups] == [
        ("error", "ValueError: bad", 1, 0),
        ("unscorable", "silent", SHOWN + 5, 5),
    ]


def test_a_failure_without_a_reason_says_so() -> None:
    (group,) = failures("toy", [{"id": "a", "status": "unscorable"}])
    assert group.reason == "no reason given"


def test_notes_of_the_run_and_its_parts_come_first_and_once(run: Run) -> None:
    document = {**run.document, "notes": ["first", "twice"], "dataset": {"note": "twice"}}
    said = notes(replace(run, document=document), score_rows(run))
    assert said[:2] == ["first", "twice"]
    assert said.count("twice") == 1


def test_a_harness_with_uncommitted_changes_is_named_as_a_limit(run: Run) -> None:
    for dirty in (True, False):
        document = {**run.document, "harness": {"version": "1", "commit": "c" * 40, "dirty": dirty}}
        said = " ".join(notes(replace(run, document=document), []))
        assert ("uncommitted changes" in said) == dirty


def test_a_run_of_an_earlier_schema_with_little_in_it_still_has_facts(run: Run) -> None:
    bare = {key: run.document[key] for key in ("schema_version", "run_id", "tasks", "metrics")}
    found = {
        fact.label: fact.value
        for fact in facts(replace(run, document={**bare, "status": "partial"}))
    }
    assert (found["Model"], found["Judge"]) == ("none", "none")


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"provider": "testbed", "requested": "labels"}, "testbed labels"),
        ({"provider": "openai", "requested": "openai/gpt-4o", "calls": 3}, "openai/gpt-4o"),
        ({"provider": "replay", "requested": ["openai/a", "b"]}, "replay openai/a, b"),
        ({}, "none"),
    ],
)
def test_the_judge_is_named_with_its_provider(run: Run, judge: object, said: str) -> None:
    document = {**run.document, "judge": judge}
    found = {fact.label: fact.value for fact in facts(replace(run, document=document))}
    assert found["Judge"] == said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (3.14159265, "3.142"),
        (["a", 1], "a, 1"),
        ("ab" * 32, "abababababab"),
        ("a" * 64 + " boat", "a" * 64 + " boat"),
    ],
)
def test_values_are_written_for_people(value: object, text: str) -> None:
    assert plain(value) == text
