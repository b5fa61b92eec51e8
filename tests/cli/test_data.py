"""`lmmsae-eval data`: what a user reads when sets are there, missing or scored."""

from __future__ import annotations

import json

import pytest

RECORDS = [
    {
        "category": "VD", "subcategory": "map", "set_id": "0", "figure_id": str(figure),
        "question_id": "0", "question": "Is it so?", "gt_answer": str(1 - figure),
        "visual_input": str(1 + figure), "filename": f"./VD/map/0_{figure}.png",
    }
    for figure in range(2)
]  # fmt: skip


@pytest.fixture
def files(in_folder, monkeypatch):
    monkeypatch.setenv("LMMSAE_EVAL_DATA", str(in_folder / "data"))
    (in_folder / "q.json").write_text(json.dumps(RECORDS))
    replies = [r | {"model_prediction": "Yes, it is."} for r in RECORDS]
    (in_folder / "replies.json").write_text(json.dumps(replies))
    return in_folder


@pytest.mark.usefixtures("files")
def test_one_file_of_replies_gets_the_scores_of_three_scorings(type_command):
    result = type_command("data", "score", "replies.json", "--questions", "q.json", "--json")
    assert result.exit_code == 0
    found = {s["scoring"]: s for s in json.loads(result.stdout)["scorings"]}
    assert found.keys() == {"paper", "lmms_eval", "vlmevalkit"}
    assert found["paper"]["splits"]["overall"]["aacc"] == 0.5
    assert found["paper"]["splits"]["overall"]["mixed"] == 1.0
    assert found["vlmevalkit"]["splits"].keys() == {"overall", "VD", "VD_map"}
    table = type_command("data", "score", "replies.json", "--questions", "q.json").stdout
    assert "vlmevalkit: 0 of 2 are neither yes nor no; inferred from its code" in table


def test_what_is_neither_is_counted_and_what_is_not_asked_is_told(files, type_command):
    rows = [{"id": "VD/map/0/0/0", "answer": "it depends"}]
    (files / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = type_command(
        "data", "score", "few.jsonl", "--questions", "q.json", "--scoring", "paper"
    )
    assert "paper: 1 of 1 are neither yes nor no" in result.stdout
    assert "1 questions have no reply" in result.stderr


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "VD/map/7/0/0", "answer": "yes"}], "no question of this set"),
        ([{"id": "VD/map/0/0/0", "answer": "yes"}] * 2, "twice"),
        ([{"id": "VD/map/0/0/0"}], "none of the fields"),
        ([{"answer": "yes"}], "has no id"),
        ([], "no reply"),
        (["yes"], "no JSON object"),
    ],
)
def test_replies_that_do_not_fit_are_one_line_that_says_how(files, type_command, rows, said):
    (files / "bad.json").write_text(json.dumps(rows))
    result = type_command("data", "score", "bad.json", "--questions", "q.json")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("files")
def test_a_set_that_is_not_here_is_listed_with_the_command_that_brings_it(type_command):
    listed = type_command("data", "ls")
    assert "`data get pope` brings it" in listed.stdout
    missing = type_command("data", "score", "replies.json")
    assert missing.exit_code == 2
    assert "lmmsae-eval data get hallusionbench" in missing.stderr
    assert len(json.loads(type_command("data", "ls", "--json").stdout)["sets"]) == 3
