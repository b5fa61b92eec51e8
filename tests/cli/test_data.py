"""`lmmsae-eval data`: what a user reads when sets are there, missing or scored."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


class Judge(BaseHTTPRequestHandler):
    """Says in the form that it was asked for: the first example of it; or what breaks."""

    broken = frozenset()
    n_asked = 0

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).n_asked += 1
        text = body["messages"][-1]["content"]
        text = text if isinstance(text, str) else text[0]["text"]
        example = text.rsplit("Reply with ", 1)[1].split(" or ")[0]
        said = "I think so" if any(word in text for word in self.broken) else example
        message = {"role": "assistant", "content": said}
        answer = json.dumps({
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def judge():
    handler = type("Asked", (Judge,), {"n_asked": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}/v1#m"
    server.shutdown()
    server.server_close()


def judged(type_command, ref, *more):
    words = ("data", "score", "replies.json", "--questions", "q.json", "--judge", ref, *more)
    return type_command(*words)


def test_a_judge_is_asked_once_and_its_replies_replay_without_it(files, type_command, judge):
    handler, url = judge
    first = judged(type_command, url, "--json")
    assert first.exit_code == 0, first.output
    found = {each["scoring"]: each for each in json.loads(first.stdout)["scorings"]}
    assert found.keys() == {"paper", "lmms_eval"}
    assert found["paper"]["splits"]["overall"]["aacc"] == 1.0
    assert handler.n_asked == 2
    assert judged(type_command, url, "--json").stdout == first.stdout
    assert handler.n_asked == 2
    replayed = judged(type_command, f"replay:{files / 'replies.json.judged'}", "--record", "again")
    assert replayed.exit_code == 0
    assert "2 of 2 replies judged; 0 unscorable, 0 error" in replayed.stdout


@pytest.mark.usefixtures("files")
def test_a_judge_out_of_form_scores_nothing(type_command, judge):
    handler, url = judge
    handler.broken = {"Is it so"}
    result = judged(type_command, url)
    assert result.exit_code == 0
    assert "0 of 2 replies judged; 2 unscorable, 0 error; 1 families left out" in result.stdout
    values = [line.split()[3] for line in result.stdout.splitlines() if " overall " in line]
    assert set(values) == {"-"}


@pytest.mark.usefixtures("files")
def test_a_recording_that_lacks_replies_is_incomplete(type_command, judge):
    _, url = judge
    judged(type_command, url, "--record", "first")
    kept = Path("first", "judge.jsonl")
    kept.write_text(kept.read_text().splitlines()[0] + "\n")
    result = judged(type_command, "replay:first", "--record", "second")
    assert result.exit_code == 3
    assert "1 calls of the judge broke" in result.stderr
    assert "1 of 2 replies judged; 0 unscorable, 1 error" in result.stdout


@pytest.mark.usefixtures("files")
def test_a_scoring_that_parses_asks_no_judge(type_command):
    result = judged(type_command, "openai/gpt-4o", "--scoring", "vlmevalkit")
    assert result.exit_code == 2
    assert "asks no judge" in result.stderr
