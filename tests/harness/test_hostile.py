"""A judge's endpoint that does everything wrong that one can: no sample is lost, scored twice, or
scored from a reply that isn't its own."""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.errors import IncompleteError
from lmmsae_eval.harness.budget import Price
from lmmsae_eval.harness.retry import Policy
from lmmsae_eval.harness.rundir import Run, load_run

PATIENT = Policy(timeout=60, total=120)
"""Where no fault is injected, a busy machine must not be one."""
SCRIPT = Path(__file__).with_name("judged_run.py")
CODE = re.compile(r'\{"item": "(\w+)"')
FAULTS = (
    *("429", "429_soon", "500", "503_html", "timeout", "drip", "drop", "drop_late", "half"),
    *("no_choices", "empty", "null", "other_model", "no_model", "large", "swapped", "mumble"),
)


def truth(code: str) -> int:
    """What the judge thinks of the item with this code."""
    return hashlib.sha256(code.encode()).digest()[0] % 2


def completion(text: Any, model: Any = "judge-2026-01-01") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def verdict(code: str, flipped: bool = False) -> str:
    return json.dumps({"item": code, "fits": truth(code) ^ flipped})


class Hostile(ThreadingHTTPServer):
    """Answers rightly or with a fault, drawn by the seed. Remembers all that it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, seed: int, share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.random, self.share = random.Random(seed), share
        self.faults: Counter[str] = Counter()
        self.asked: list[str] = []
        self.slow = 0.0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, code: str) -> tuple[str | None, str]:
        """What to do wrong, and another item's code."""
        with self.lock:
            other = self.random.choice(self.asked) if self.asked else "0"
            self.asked.append(code)
            if self.random.random() >= self.share:
                return None, other
            kind = self.random.choice(FAULTS)
            if kind == "swapped" and other == code:
                kind = "500"
            self.faults[kind] += 1
            return kind, other

    def handle_error(self, request: Any, client_address: Any) -> None:
        return None  # the client has gone: that is what faults are for


class _Handler(BaseHTTPRequestHandler):
    server: Hostile
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = CODE.search(body["messages"][1]["content"][0]["text"])
        assert found
        kind, other = self.server.fault(found[1])
        time.sleep(self.server.slow)
        getattr(self, f"_{kind}")(found[1], other) if kind else self._send(verdict(found[1]))

    def _send(self, text: Any, **settings: Any) -> None:
        self._raw(200, json.dumps(completion(text, **settings)).encode())

    def _raw(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        length = headers.pop("length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    def _429(self, code: str, other: str) -> None:
        self._raw(429, b'{"error": {"message": "slow down"}}')

    def _429_soon(self, code: str, other: str) -> None:
        self._raw(429, b"{}", Retry_After="0.02")

    def _500(self, code: str, other: str) -> None:
        self._raw(500, verdict(code, flipped=True).encode())

    def _503_html(self, code: str, other: str) -> None:
        self._raw(503, b"<html>1</html>")

    def _timeout(self, code: str, other: str) -> None:
        time.sleep(0.6)
        self._send(verdict(code, flipped=True))

    def _drip(self, code: str, other: str) -> None:
        """A byte now and then: never a silence, never an end."""
        self._raw(200, b"{", length="100")
        for _ in range(8):
            time.sleep(0.1)
            self.wfile.write(b" ")
        self.close_connection = True

    def _drop(self, code: str, other: str) -> None:
        self.close_connection = True

    def _drop_late(self, code: str, other: str) -> None:
        self._raw(200, b"", length="400")
        self.close_connection = True

    def _half(self, code: str, other: str) -> None:
        content = json.dumps(completion(verdict(code, flipped=True))).encode()
        self._raw(200, content[: len(content) // 2])

    def _no_choices(self, code: str, other: str) -> None:
        self._raw(200, json.dumps({"verdict": verdict(code, flipped=True)}).encode())

    def _empty(self, code: str, other: str) -> None:
        self._send("")

    def _null(self, code: str, other: str) -> None:
        self._send(None)

    def _other_model(self, code: str, other: str) -> None:
        self._send(verdict(code, flipped=True), model="judge-mini")

    def _no_model(self, code: str, other: str) -> None:
        self._send(verdict(code, flipped=True), model=None)

    def _large(self, code: str, other: str) -> None:
        self._send(verdict(code, flipped=True) + " " * 10_000_000)

    def _swapped(self, code: str, other: str) -> None:
        self._send(json.dumps({"item": other, "fits": 1 - truth(code)}))

    def _mumble(self, code: str, other: str) -> None:
        self._send(self.server.random.choice(["1", "yes", '{"fits": 1}', "```json\n1"]))

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def hostile() -> Iterator[Any]:
    opened: list[Hostile] = []

    def make(seed: int, share: float) -> Hostile:
        server = Hostile(seed, share)
        opened.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield make
    for server in opened:
        server.shutdown()
        server.server_close()


def check(run: Run, script: ModuleType) -> None:
    """No sample is lost or there twice, and each score is the judge's own of that very item."""
    lines = run.lines("toy/judged")
    assert [line["id"] for line in lines] == sorted({line["id"] for line in lines})
    for line in lines:
        code = script.form_of(line["id"]).item
        assert line["status"] != "ok" or line["scores"] == {"fits": float(truth(code))}
        if line["status"] == "unscorable":
            assert line["detail"]["raw"][:1] in ("", "1", "y", "{", "`")
    stored = (run.path / "samples" / "toy.judged.jsonl").read_text().splitlines()
    scored = [json.loads(line)["id"] for line in stored if json.loads(line)["status"] != "error"]
    assert len(scored) == len(set(scored))


def until_complete(
    script: ModuleType, folder: Path, server: Hostile, n: int, timeout: float = 0.4
) -> Run:
    policy = replace(script.POLICY, timeout=timeout)
    for _ in range(60):
        run = script.judge_all(folder, server.url, n, policy)
        check(run, script)
        if run.complete:
            return run
    raise AssertionError("never complete")


def hostile_run(script: ModuleType, folder: Path, server: Hostile, n: int) -> Run:
    run = until_complete(script, folder, server, n)
    assert len(run.lines("toy/judged")) == n
    replies = [entry["request_sha256"] for entry in run.judge() if entry["error"] is None]
    assert len(replies) == len(set(replies)) == n
    assert sum(entry["attempts"] for entry in run.judge()) == len(server.asked)
    assert run.document["judge"]["served"] == ["judge-2026-01-01"]
    assert run.damage() == []
    return run


def test_no_sample_is_lost_scored_twice_or_from_a_reply_that_is_not_its_own(
    script: ModuleType, hostile: Any, tmp_path: Path
) -> None:
    server = hostile(seed=1, share=0.6)

    hostile_run(script, tmp_path, server, 60)

    assert len(server.faults) == len(FAULTS)


@pytest.mark.campaign
def test_two_thousand_faults_give_no_wrong_score(
    script: ModuleType, hostile: Any, tmp_path: Path
) -> None:
    injected: Counter[str] = Counter()
    seed = 100
    while injected.total() < 2000:
        server = hostile(seed, share=0.6)
        hostile_run(script, tmp_path / str(seed), server, 200)
        injected += server.faults
        seed += 1
    sys.stdout.write(f"{injected.total()} faults: {dict(injected)}")
    assert min(injected[fault] for fault in FAULTS) > 40


def start(folder: Path, server: Hostile, n: int, timeout: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), str(folder), server.url, str(n), str(timeout)]
    return subprocess.Popen(command)


def killed_runs(
    script: ModuleType, folder: Path, server: Hostile, n: int, stops: list[int], timeout: float
) -> Run:
    """Killed whenever so many questions have come; then it goes on to its end.

    No question whose reply was recorded comes again, and those that do are counted.
    """
    recorded: set[str] = set()
    before = 0
    for stop in stops:
        process = start(folder, server, n, timeout)
        while len(server.asked) < before + stop and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not recorded & set(server.asked[before:])
        before = len(server.asked)
        entries = load_run(next(folder.iterdir())).judge()
        recorded |= {script.form_of(e["key"]).item for e in entries if e["error"] is None}
    run = until_complete(script, folder, server, n, timeout)
    assert not recorded & set(server.asked[before:])
    return run


def test_killed_at_work_and_started_again_a_run_repeats_no_recorded_call_and_counts_the_others(
    script: ModuleType, hostile: Any, tmp_path: Path
) -> None:
    server = hostile(seed=2, share=0.0)
    server.slow = 0.05

    run = killed_runs(script, tmp_path, server, 60, [25], timeout=30)

    check(run, script)
    assert all(line["status"] == "ok" for line in run.lines("toy/judged"))
    repeated = len(server.asked) - 60
    assert 0 < run.document["judge"]["lost"] <= script.POLICY.concurrency
    assert repeated <= run.document["judge"]["lost"]


@pytest.mark.campaign
def test_thirty_kills_amid_faults_change_no_score(
    script: ModuleType, hostile: Any, tmp_path: Path
) -> None:
    moments = random.Random(5)
    for round_ in range(10):
        server = hostile(seed=round_, share=0.3)
        server.slow = 0.01
        stops = [moments.randint(1, 60) for _ in range(3)]
        run = killed_runs(script, tmp_path / str(round_), server, 90, stops, timeout=0.4)
        check(run, script)
        assert run.document["judge"]["lost"] <= 3 * script.POLICY.concurrency


def test_a_run_stops_cleanly_before_it_costs_more_than_allowed_and_goes_on_with_more(
    script: ModuleType, hostile: Any, tmp_path: Path
) -> None:
    server = hostile(seed=3, share=0.0)
    price = Price(1000, 1000)  # 110 tokens: 11 cents a call

    with pytest.raises(IncompleteError, match="go on with a higher --cost-limit"):
        script.judge_all(tmp_path, server.url, 40, PATIENT, limit=2.0, price=price)
    asked = len(server.asked)
    stopped = load_run(next(tmp_path.iterdir()))
    run = script.judge_all(tmp_path, server.url, 40, PATIENT, limit=9.0, price=price)

    assert 0 < asked * 0.11 <= 2.0
    assert stopped.status == "partial"
    assert run.complete
    assert len(server.asked) == 40
    check(run, script)


def test_several_calls_at_once_cannot_overdraw_the_limit(
    script: ModuleType, hostile: Any, tmp_path: Path
) -> None:
    server = hostile(seed=4, share=0.0)
    server.slow = 0.05
    policy = replace(PATIENT, concurrency=12)

    with pytest.raises(IncompleteError):
        script.judge_all(tmp_path, server.url, 40, policy, limit=1.0, price=Price(1000, 1000))

    assert len(server.asked) * 0.11 <= 1.0
