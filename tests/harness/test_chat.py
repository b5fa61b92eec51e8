"""Chat clients against a real HTTP server on this machine, and against endpoints that misbehave."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import ChatError, UsageError
from lmmsae_eval.harness.chat import chat_client
from lmmsae_eval.harness.openai_chat import OpenAIChat
from lmmsae_eval.harness.question import Form, request_sha256
from lmmsae_eval.harness.replay import ReplayChat
from lmmsae_eval.harness.retry import Policy
from lmmsae_eval.harness.rundir import JUDGE, RunDirectory, load_run
from lmmsae_eval.harness.runner import Plan, execute
from lmmsae_eval.harness.task import Sample
from lmmsae_eval.harness.transcript import Transcript
from PIL import Image

SECRET = "sk-very-secret-0123456789"
Answer = tuple[int, bytes, str]
"""Status, body, content type."""


def completion(text: str | None, model: str = "m-2026") -> Answer:
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
    }
    return 200, json.dumps(body).encode(), "application/json"


def failure(status: int, message: str = "no") -> Answer:
    return status, json.dumps({"error": {"message": message}}).encode(), "application/json"


class Server(ThreadingHTTPServer):
    """Answers what it is told to, the last answer for ever, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = [completion("yes")]
        self.models = ["only-model"]
        self.retry_after: str | None = None
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        status, answer, kind = self.server.next_answer()
        # Answered by whom was asked, under a dated name, as endpoints do.
        self._send((status, answer.replace(b'"m-2026"', f'"{body["model"]}-2026"'.encode()), kind))

    def do_GET(self) -> None:
        self.server.requests.append((self.path, {}, None))
        data = [{"id": name, "object": "model"} for name in self.server.models]
        models = {"object": "list", "data": data}
        self._send((200, json.dumps(models).encode(), "application/json"))

    def _send(self, answer: Answer) -> None:
        status, body, kind = answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.server.retry_after and status == 429:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def recorder(tmp_path: Path) -> Transcript:
    transcript = Transcript()
    transcript.open(RunDirectory(tmp_path / "run"))
    return transcript


def judge(server: Server, transcript: Transcript | None = None, retries: int = 0) -> OpenAIChat:
    policy = Policy(timeout=5, retries=retries)
    return OpenAIChat(f"{server.url}/v1#m", "judge", transcript, policy)


def picture(level: int = 200) -> Image.Image:
    return Image.new("RGB", (6, 4), (level, 0, 0))


def test_a_question_of_texts_and_pictures_is_answered(server: Server) -> None:
    reply = judge(server).ask("You judge.", ["Is this red?", picture()], key="item 1")

    assert (reply.text, reply.model, reply.cached) == ("yes", "m-2026", False)
    assert reply.usage == {"prompt_tokens": 11, "completion_tokens": 2}
    ((path, _, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"]) == ("m", 0)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "You judge."}
    assert user["content"][0] == {"type": "text", "text": "Is this red?"}


def test_a_picture_arrives_pixel_by_pixel_as_a_png_data_url(server: Server) -> None:
    judge(server).ask("", [picture(123)], key="item")

    url = server.requests[0][2]["messages"][1]["content"][0]["image_url"]["url"]
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    sent = Image.open(BytesIO(base64.b64decode(data)))
    assert sent.tobytes() == picture(123).tobytes()


def test_an_address_without_path_and_model_is_completed_by_asking_the_endpoint(
    server: Server,
) -> None:
    OpenAIChat(server.url).ask("", ["hello"], key="a")

    assert [path for path, _, _ in server.requests] == ["/v1/models", "/v1/chat/completions"]
    assert server.requests[1][2]["model"] == "only-model"


def test_an_address_is_known_by_the_model_that_it_serves(server: Server) -> None:
    described = OpenAIChat(server.url).describe()
    server.models = ["another"]

    assert described["requested"] == f"{server.url}#only-model"
    assert described == OpenAIChat(f"{server.url}#only-model").describe()
    assert OpenAIChat(server.url).describe() != described


def test_an_address_that_serves_several_models_or_none_is_refused(server: Server) -> None:
    server.models = ["a", "b"]
    with pytest.raises(UsageError, match=r"serves a, b; name one: .*#a"):
        OpenAIChat(server.url).describe()
    server.models = []
    with pytest.raises(UsageError, match="lists no model; name one"):
        OpenAIChat(server.url).describe()


def test_an_address_where_nobody_listens_is_one_line() -> None:
    with pytest.raises(ChatError, match="listed no models"):
        OpenAIChat("http://127.0.0.1:9", policy=Policy(retries=0)).describe()


def test_a_replay_is_comparable_with_what_it_replays_and_another_run(
    server: Server, recorder: Transcript, tmp_path: Path
) -> None:
    client = judge(server, recorder)
    client.ask("S", ["Q"], key="1")
    replay = ReplayChat(tmp_path / "run")

    assert replay.comparable() == client.comparable()
    assert replay.describe() != client.describe()
    judge(server, recorder).ask("S", ["Q"], key="2")
    assert ReplayChat(tmp_path / "run").comparable() == client.comparable()


def test_a_replay_of_two_models_is_comparable_with_neither(
    server: Server, recorder: Transcript, tmp_path: Path
) -> None:
    clients = [OpenAIChat(f"{server.url}#{name}", "judge", recorder) for name in ("a", "b")]
    for client in clients:
        client.ask("S", ["Q"], key=client.ref)
    replayed = ReplayChat(tmp_path / "run").comparable()

    assert all(client.comparable() != replayed for client in clients)


def test_a_local_address_needs_no_key(server: Server) -> None:
    assert judge(server).ask("", ["hello"], key="a").text == "yes"


def test_a_missing_key_is_one_line_that_names_the_variable() -> None:
    with pytest.raises(UsageError, match="no key for openai/gpt-4o; set OPENAI_API_KEY"):
        chat_client("openai/gpt-4o", "judge", Transcript())


@pytest.mark.parametrize("ref", ["gpt-4o", "openai/", "ftp://host/v1", "http://", ""])
def test_what_is_no_chat_model_is_a_usage_error(ref: str) -> None:
    with pytest.raises(UsageError, match="is no chat model"):
        chat_client(ref, "judge", Transcript())


@pytest.mark.parametrize("ref", ["https://me:secret@host/v1", "https://host/v1?key=secret"])
def test_credentials_in_an_address_are_refused_without_repeating_them(ref: str) -> None:
    with pytest.raises(UsageError, match="put the key in OPENAI_API_KEY") as caught:
        chat_client(ref, "judge", Transcript())
    assert "secret" not in str(caught.value)


def test_a_key_is_never_sent_in_clear_text_over_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    assert OpenAIChat("http://example.org/v1#m")._key is None
    assert OpenAIChat("https://example.org/v1#m")._key == SECRET
    assert OpenAIChat("http://localhost:1/v1#m")._key == SECRET


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_failure_is_retried(server: Server, status: int) -> None:
    server.answers = [failure(status), completion("yes")]

    assert judge(server, retries=2).ask("", ["hello"], key="a").text == "yes"
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [500, 400])
def test_a_lasting_failure_is_an_error_of_this_item(server: Server, status: int) -> None:
    server.answers = [failure(status, "overloaded")]

    with pytest.raises(ChatError, match=f"refused with status {status}: overloaded"):
        judge(server).ask("", ["hello"], key="a")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_is_an_error_of_the_whole_command(server: Server, status: int) -> None:
    server.answers = [failure(status, "unknown")]

    with pytest.raises(UsageError, match="check OPENAI_API_KEY and the model's name"):
        judge(server).ask("", ["hello"], key="a")


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>proxy login</html>", "text/html"),
        (200, b"{", "application/json"),
        (200, b"{}", "application/json"),
        (200, b"[]", "application/json"),
        (200, b'"yes"', "application/json"),
        (200, b'{"choices": []}', "application/json"),
        (200, b'{"choices": [{}]}', "application/json"),
        (200, b"", "application/json"),
        completion(None),
        (200, completion("")[1].replace(b'"stop"', b'"length"'), "application/json"),
    ],
    ids=lambda answer: answer[1][:24].decode(errors="replace") or "empty",
)
def test_garbage_under_status_200_is_an_error_and_no_verdict(
    server: Server, recorder: Transcript, answer: Answer
) -> None:
    server.answers = [answer]

    with pytest.raises(ChatError) as caught:
        judge(server, recorder).ask("", ["hello"], key="a")
    assert "\n" not in str(caught.value)
    assert recorder.entries[0]["reply"] is None


def test_a_model_that_ends_at_once_has_said_nothing(server: Server) -> None:
    server.answers = [completion("")]

    assert judge(server).ask("", ["hello"], key="a").text == ""


def test_nobody_listening_is_an_error_of_this_item() -> None:
    with pytest.raises(ChatError, match="did not answer"):
        OpenAIChat("http://127.0.0.1:9/v1#m", policy=Policy(retries=0)).ask("", ["hello"], key="a")


def test_every_request_and_reply_is_written_at_once(
    server: Server, recorder: Transcript, tmp_path: Path
) -> None:
    server.answers = [failure(500), completion("no")]
    with pytest.raises(ChatError):
        judge(server, recorder).ask("S", ["Q", picture()], key="item 1")
    judge(server, recorder).ask("S", ["Q", picture()], key="item 1")

    failed, answered = [json.loads(s) for s in (tmp_path / "run" / JUDGE).read_text().splitlines()]
    assert failed["error"]["type"] == "ChatError"
    assert failed["reply"] is None
    assert answered["reply"] == "no"
    assert answered["served"] == "m-2026"
    assert answered["system"] == "S"
    assert answered["parts"][0] == {"text": "Q"}
    assert answered["parts"][1]["size"] == [6, 4]
    summary = {"calls": 2, "failed": 1, "lost": 0, "served": ["m-2026"]}
    assert recorder.summary() == summary | {"prompt_tokens": 11, "completion_tokens": 2}


@pytest.mark.parametrize("answer", [completion("yes"), failure(500, f"bad key {SECRET}")])
def test_the_key_is_sent_but_written_nowhere(
    server: Server,
    recorder: Transcript,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.answers = [answer]
    client = judge(server, recorder)
    message = ""
    try:
        client.ask("", ["hello"], key="a")
    except ChatError as error:
        message = str(error)

    assert server.requests[0][1]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in message
    assert SECRET not in (tmp_path / "run" / JUDGE).read_text()
    assert SECRET not in json.dumps(client.describe())


def test_the_same_question_is_asked_once_in_a_run_and_answered_from_the_transcript(
    server: Server, recorder: Transcript
) -> None:
    client = judge(server, recorder)
    first = client.ask("", ["hello"], key="a")
    second = client.ask("", ["hello"], key="a")

    assert (first.cached, second.cached) == (False, True)
    assert first.text == second.text
    assert len(server.requests) == len(recorder.entries) == 1


@pytest.mark.parametrize(
    "other",
    [("S2", ["Q"], "k"), ("S", ["Q2"], "k"), ("S", ["Q"], "k2"), ("S", ["Q", picture()], "k")],
)
def test_another_prompt_text_item_or_picture_is_another_question(other: Any) -> None:
    assert request_sha256("judge", *other) != request_sha256("judge", "S", ["Q"], "k")


def test_a_recording_answers_the_same_questions_without_key_or_endpoint(
    server: Server, recorder: Transcript, tmp_path: Path
) -> None:
    asked = judge(server, recorder).ask("S", ["Q", picture()], key="item 1")
    again = Transcript()
    replay = chat_client(f"replay:{tmp_path / 'run'}", "judge", again)
    reply = replay.ask("S", ["Q", picture()], key="item 1")

    assert (reply.text, reply.model, reply.cached) == (asked.text, asked.model, True)
    assert len(server.requests) == 1
    assert again.entries == recorder.entries


def test_a_recording_never_makes_up_a_reply(
    server: Server, recorder: Transcript, tmp_path: Path
) -> None:
    judge(server, recorder).ask("S", ["Q", picture(1)], key="item 1")
    replay = ReplayChat(tmp_path / "run" / JUDGE)

    with pytest.raises(ChatError, match="has no reply for 'item 1'"):
        replay.ask("S", ["Q", picture(2)], key="item 1")


def test_a_missing_recording_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recording at"):
        chat_client(f"replay:{tmp_path / 'none'}", "judge", Transcript())


def test_a_recording_is_known_by_its_content(
    server: Server, recorder: Transcript, tmp_path: Path
) -> None:
    judge(server, recorder).ask("S", ["Q"], key="1")
    before = ReplayChat(tmp_path / "run").describe()
    judge(server, recorder).ask("S", ["Q"], key="2")

    assert ReplayChat(tmp_path / "run").describe() != before


def judged_plan(plan: Callable[..., Plan], client: Any, transcript: Transcript) -> Plan:
    def subject(sample: Sample) -> float:
        return float(client.ask("", [sample.id], key=sample.id).text == "yes")

    return plan(subject, transcript=transcript, judge=client.describe())


def test_a_judged_run_keeps_its_transcript_and_counts(
    server: Server, plan: Callable[..., Plan]
) -> None:
    transcript = Transcript()
    run = execute(judged_plan(plan, judge(server, transcript), transcript))

    assert len(run.judge()) == 10
    assert run.document["judge"]["calls"] == 10
    assert run.document["judge"]["served"] == ["m-2026"]
    assert run.damage() == []


def test_a_resumed_run_does_not_pay_twice(server: Server, plan: Callable[..., Plan]) -> None:
    server.answers = [completion("yes")] * 6 + [failure(404)]
    transcript = Transcript()
    with pytest.raises(UsageError):
        execute(judged_plan(plan, judge(server, transcript), transcript))
    server.requests.clear()
    server.answers = [completion("yes")]

    transcript = Transcript()
    run = execute(judged_plan(plan, judge(server, transcript), transcript))

    assert run.complete
    asked = [body["messages"][1]["content"][0]["text"] for _, _, body in server.requests]
    assert asked == ["s6", "s7", "s8", "s9"]


def test_a_dead_judge_gives_errors_and_no_scores(server: Server, plan: Callable[..., Plan]) -> None:
    server.answers = [completion("yes")] * 3 + [failure(500)]
    transcript = Transcript()
    run = execute(judged_plan(plan, judge(server, transcript), transcript))

    assert run.status == "partial"
    assert run.metrics[0]["n_ok"] == 3
    assert all(not line["scores"] for line in run.lines("toy/mean") if line["status"] == "error")
    assert load_run(run.path).document["judge"]["failed"] > 0


FORM = Form("k7f3", "fits", (0, 1))


def test_an_endpoint_that_can_is_held_to_the_form(server: Server, recorder: Transcript) -> None:
    server.answers = [completion(FORM.example(1))]

    judge(server, recorder).ask("", ["hello"], "a", FORM)

    ((_, _, body),) = server.requests
    assert body["response_format"]["json_schema"]["schema"] == FORM.schema()
    assert recorder.entries[0]["held_to_form"] is True


def test_an_endpoint_that_cannot_is_asked_without_and_the_reply_read_as_strictly(
    server: Server, recorder: Transcript
) -> None:
    server.answers = [failure(400, "unknown field response_format"), completion("fits: 1")]
    client = judge(server, recorder)

    reply = client.ask("", ["hello"], "a", FORM)
    client.ask("", ["hello"], "b", FORM)

    assert FORM.read(reply.text) is None
    assert ["response_format" in body for _, _, body in server.requests] == [True, False, False]
    assert [entry["held_to_form"] for entry in recorder.entries] == [False, False]


def test_a_reply_to_another_question_is_no_reply_and_asked_for_again(
    server: Server, recorder: Transcript
) -> None:
    server.answers = [
        completion(Form("other", "fits", (0, 1)).example(0)),
        completion(FORM.example(1)),
    ]

    reply = judge(server, recorder, retries=1).ask("", ["hello"], "a", FORM)

    assert FORM.read(reply.text) == 1
    assert recorder.entries[0]["attempts"] == 2
    # Both were paid for.
    assert recorder.summary()["completion_tokens"] == 4


@pytest.mark.parametrize(
    ("served", "fine"),
    [
        *(("m", True), ("m-2026-01-01", True), ("m@main", True), ("m:latest", True)),
        *(("org/m", True), ("m-mini", False), ("n", False), ("m2", False)),
    ],
)
def test_a_dated_name_is_the_same_model_and_any_other_is_refused(
    server: Server, served: str, fine: bool
) -> None:
    server.answers = [completion("1", model=served)]
    if fine:
        assert judge(server).ask("", ["hello"], key="a").model == served
        return
    with pytest.raises(ChatError, match=f"answered as '{served}', not as 'm'.*#m={served}"):
        judge(server).ask("", ["hello"], key="a")


def test_a_model_that_answers_under_another_name_can_be_named(server: Server) -> None:
    server.answers = [completion("1", model="real-name")]

    reply = OpenAIChat(f"{server.url}/v1#alias=real-name").ask("", ["hello"], key="a")

    assert reply.model == "real-name"
    assert server.requests[0][2]["model"] == "alias"


def test_a_model_that_changes_within_a_run_is_refused(server: Server, recorder: Transcript) -> None:
    server.answers = [completion("1", model="m-1"), completion("1", model="m-2")]
    client = judge(server, recorder)
    client.ask("", ["hello"], key="a")

    with pytest.raises(ChatError, match="answered as 'm-2', earlier as 'm-1'"):
        client.ask("", ["hello"], key="b")


def test_a_retry_waits_as_long_as_the_endpoint_says(server: Server) -> None:
    import time

    server.answers = [failure(429), completion("1")]
    server.retry_after = "0.6"
    start = time.monotonic()

    judge(server, retries=1).ask("", ["hello"], key="a")

    assert time.monotonic() - start >= 0.6


def test_an_endpoint_that_counts_no_tokens_is_paid_at_the_likely_price(
    server: Server, recorder: Transcript
) -> None:
    status, body, kind = completion("1")
    document = json.loads(body)
    del document["usage"]
    server.answers = [(status, json.dumps(document).encode(), kind)]

    judge(server, recorder).ask("x" * 3000, [picture()], key="a")

    assert recorder.tokens["prompt_tokens"] >= 1000
