"""A local transformers model as a judge, and the same model behind transformers' own server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.openai_chat import OpenAIChat
from lmmsae_eval.harness.plan import Plan, PlannedTask
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.question import Form
from lmmsae_eval.harness.retry import Policy
from lmmsae_eval.harness.runner import execute
from lmmsae_eval.harness.task import Context
from lmmsae_eval.harness.transcript import Transcript
from lmmsae_eval.tasks.local_chat import LocalChat
from PIL import Image

FORM = Form("k7f3", "fits", (0, 1))


def pictures(n: int, level: int = 200) -> list[Image.Image]:
    return [Image.new("RGB", (96, 96), (level, 40 * i, 0)) for i in range(n)]


def test_a_local_model_sees_several_pictures_and_its_reply_is_recorded(
    tiny_lmm_folder: Path,
) -> None:
    transcript = Transcript()
    chat = LocalChat(f"hf:{tiny_lmm_folder}", "judge", transcript, max_tokens=3)

    first = chat.ask("is there a boat", [*pictures(3), "in the sea ?"], "a", FORM)
    again = chat.ask("is there a boat", [*pictures(3), "in the sea ?"], "a", FORM)
    chat.ask("is there a boat", [*pictures(3, 90), "in the sea ?"], "a", FORM)

    assert (first.cached, again.cached) == (False, True)
    assert first.text == again.text
    assert len(transcript.entries) == 2
    # Three pictures of 144 patches, and the words.
    assert first.usage["prompt_tokens"] > 3 * 144
    assert FORM.read(first.text) is None


def test_it_is_known_by_its_weights_not_by_where_they_lie(
    tiny_lmm_folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / tiny_lmm_folder.name
    elsewhere.symlink_to(tiny_lmm_folder)

    described = LocalChat(f"hf:{tiny_lmm_folder}").describe()

    assert described == LocalChat(f"hf:{elsewhere}").describe()
    assert str(tiny_lmm_folder.parent) not in str(described)


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model folder at"):
        LocalChat(f"hf:{tmp_path}/none").describe()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """`transformers serve` with the testbed's LMM: an OpenAI-compatible server that isn't ours."""
    for needed in ("accelerate", "fastapi", "uvicorn"):
        if find_spec(needed) is None:
            pytest.skip(f"transformers serve needs {needed}, which the extra `test` installs")
    import lmmsae_eval

    folder = Path(lmmsae_eval.__file__).parent / "testbed" / "weights" / "lmm"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import app; app()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(folder), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield f"{url}/v1#{folder}"
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            direct.open(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server never answered")


@pytest.mark.slow
def test_the_task_runs_against_a_real_server_pictures_included(served: str, tmp_path: Path) -> None:
    """The toy model can't judge: what counts is that each reply is recorded, parsed strictly and
    tied to its item, and that nothing breaks.
    """
    from lmmsae_eval.sae.topk import TopK, TrainedSae
    from lmmsae_eval.tasks.consistency import Consistency
    from lmmsae_eval.tasks.subject import Subject
    from lmmsae_eval.testbed.provider import Testbed

    provider: Any = Testbed()
    lmm = provider.load_lmm()
    sae = TrainedSae("random", lmm.hookpoint(2), TopK.random(64, lmm.d_model, 4, seed=0))
    transcript = Transcript()
    chat = OpenAIChat(served, "judge", transcript, Policy(concurrency=2), max_tokens=8)
    subject = Subject(lmm, [sae], provider, n_search=40, n_score=24, make_judge=lambda: chat)
    params = {"per_concept": 2, "probed": 1, "rate_floor": 0.0, "latents_per_sae": 4}
    context: Context[Subject] = Context(subject, ArtefactStore(), SilentProgress(), params=params)
    planned = [PlannedTask(Consistency(), context)]

    run = execute(Plan(planned, tmp_path, {}, {}, judge=chat.describe(), transcript=transcript))

    lines, calls = run.lines("consistency"), run.judge()
    assert run.complete
    assert calls
    assert {line["status"] for line in lines} <= {"ok", "unscorable"}
    asked = [line for line in lines if "raw" in line["detail"]]
    assert len(asked) == len(calls)
    assert all(len([p for p in call["parts"] if "image_sha256" in p]) >= 1 for call in calls)
    assert all(call["usage"]["prompt_tokens"] > 100 for call in calls)
    assert len({call["served"] for call in calls}) == 1
