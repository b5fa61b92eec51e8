"""A provider's chat and batch API on this machine, which breaks what it is told to break."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CODE = re.compile(r'\{"item": "(\w+)"')
MODEL = "judge-2026-01-01"


def truth(code: str) -> int:
    """What this judge thinks of the item with this code."""
    return hashlib.sha256(code.encode()).digest()[0] % 2


def code_of(body: Any) -> str:
    found = CODE.search(body["messages"][1]["content"][-1]["text"])
    assert found
    return found[1]


def completion(text: str, model: str = MODEL) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def verdict(code: str, flipped: bool = False) -> str:
    return json.dumps({"item": code, "fits": truth(code) ^ flipped})


def row(name: str, body: Any, status: int = 200) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": f"row-{name}", "custom_id": name, "response": response, "error": None}


class Provider(ThreadingHTTPServer):
    """Takes batches and has them done after `looks` questions for their state.

    `rows`: faults by their place in the shuffled output file: `missing`, `late` (expired), `500`,
    `400_form`, `other_model`, `swapped`, `mumble`, `twice`, `stranger`, `no_response`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = MODEL
        self.finish, self.mumbles = "stop", False
        """Of live replies: how they end, and whether they are in no form."""
        self.looks = 2
        self.rows: dict[int, str] = {}
        self.share, self.random = 0.0, random.Random(0)
        self.status = "completed"
        self.halves = 0
        self.lost_answers = 0
        """So many batches are made, and the answer that says so is lost."""
        self.refusals: Counter[str] = Counter()
        """By the method and the path's first part, so many requests to refuse with 500."""
        self.without_batches = False
        self.without_forms = False
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.seen: Counter[str] = Counter()
        self.live: list[str] = []
        self.batched: list[str] = []
        self.faults: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        return None

    def make(self, asked: Any) -> dict[str, Any]:
        name = f"batch_{len(self.batches)}"
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        self.batched += [code_of(line["body"]) for line in lines]
        made = {"id": name, "object": "batch", "status": "validating", "lines": lines}
        made |= {"metadata": asked["metadata"], "created_at": int(time.time())}
        made |= {"endpoint": asked["endpoint"], "input_file_id": asked["input_file_id"]}
        self.batches[name] = made
        return self.told(made)

    def told(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in batch.items() if name != "lines"}

    def look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self.seen[name] += 1
        if batch["status"] == "validating" and self.seen[name] > self.looks:
            self._finish(batch)
        return self.told(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.status
        if self.status == "failed":
            batch["errors"] = {"data": [{"code": "x", "message": "too many tokens are queued"}]}
            return
        lines = list(batch["lines"])
        self.random.shuffle(lines)
        found = [self._row(i, line) for i, line in enumerate(lines)]
        out, errors = ([r for part in found for r in part[side]] for side in (0, 1))
        for key, rows in (("output_file_id", out), ("error_file_id", errors)):
            if rows:
                batch[key] = f"{batch['id']}-{key}"
                self.files[batch[key]] = b"".join(json.dumps(r).encode() + b"\n" for r in rows)
        failed = len(errors)
        batch["request_counts"] = {"total": len(lines), "failed": failed, "completed": len(out)}

    def _row(self, place: int, line: Any) -> tuple[list[Any], list[Any]]:
        name, code = line["custom_id"], code_of(line["body"])
        good = row(name, completion(verdict(code), self.model))
        bad = verdict(code, flipped=True)
        other = self.random.choice(self.batched)
        kinds: dict[str, tuple[list[Any], list[Any]]] = {
            "missing": ([], []),
            "late": ([], [{"custom_id": name, "response": None, "error": {"code": "expired"}}]),
            "500": ([], [row(name, {"error": {"message": "oh"}}, 500)]),
            "400_form": ([], [row(name, {"error": {"message": "no response_format"}}, 400)]),
            "other_model": ([row(name, completion(bad, "judge-mini"))], []),
            "swapped": ([row(name, completion(json.dumps({"item": other + "0", "fits": 0})))], []),
            "mumble": ([row(name, completion("1"))], []),
            "twice": ([good, row(name, completion(bad))], []),
            "stranger": ([good, row("nobody", completion(bad)), ["no row"]], []),
            "no_response": ([{"custom_id": name}], []),
            "no_object": ([row(name, [bad])], []),
        }
        kind = self.rows.get(place, "400_form" if self.without_forms else "")
        if not kind and self.random.random() < self.share:
            kind = self.random.choice(sorted(set(kinds) - {"400_form"}))
        if kind == "400_form" and "response_format" not in line["body"]:
            kind = ""
        if kind:
            self.faults[kind] += 1
        return kinds.get(kind, ([good], []))


class _Handler(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused():
            return
        if self.path == "/v1/chat/completions":
            asked = json.loads(body)
            if self.server.without_forms and "response_format" in asked:
                time.sleep(0.1)
                self._send({"error": {"message": "no response_format"}}, 400)
                return
            code = code_of(asked)
            self.server.live.append(code)
            said = completion("1" if self.server.mumbles else verdict(code), self.server.model)
            said["choices"][0]["finish_reason"] = self.server.finish
            self._send(said)
        elif self.path == "/v1/files" and not self.server.without_batches:
            name = f"file-{len(self.server.files)}"
            self.server.files[name] = _uploaded(body)
            self._send({"id": name, "object": "file"})
        elif self.path == "/v1/batches":
            made = self.server.make(json.loads(body))
            if self.server.lost_answers:
                self.server.lost_answers -= 1
                self.close_connection = True
                return
            self._send(made)
        else:
            self._send({"error": {"message": "no such thing"}}, 404)

    def do_GET(self) -> None:
        if self._refused():
            return
        kind, _, rest = self.path.partition("?")[0].removeprefix("/v1/").partition("/")
        if kind == "batches" and not rest:
            newest = [self.server.told(b) for b in reversed(self.server.batches.values())]
            self._send({"object": "list", "data": newest, "has_more": False})
        elif kind == "batches":
            self._send(self.server.look(rest))
        else:
            content = self.server.files[rest.removesuffix("/content")]
            if self.server.halves:
                self.server.halves -= 1
                content = content[: len(content) // 2]
            self._raw(200, content)

    def _refused(self) -> bool:
        kind = f"{self.command} {self.path.partition('?')[0].split('/')[2]}"
        if self.server.refusals[kind] <= 0:
            return False
        self.server.refusals[kind] -= 1
        self._send({"error": {"message": "busy"}}, 500)
        return True

    def _send(self, document: Any, status: int = 200) -> None:
        self._raw(status, json.dumps(document).encode())

    def _raw(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        return None


def _uploaded(body: bytes) -> bytes:
    """The file of a multipart form."""
    boundary = body[: body.index(b"\r\n")]
    part = next(p for p in body.split(boundary) if b'filename="questions.jsonl"' in p)
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
