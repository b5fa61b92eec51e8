"""What was asked in an earlier run, to the letter, is not paid for again; a repeat always is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.errors import ChatError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.kept_replies import KIND, KeptReplies
from lmmsae_eval.harness.openai_chat import OpenAIChat
from lmmsae_eval.harness.question import Form, item_code
from lmmsae_eval.harness.retry import Policy
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.transcript import Transcript
from PIL import Image

FORM = Form(item_code("verdict", "k"), "fits", (0, 1))
Ask = Callable[..., Any]


@pytest.fixture
def kept(tmp_path: Path) -> KeptReplies:
    return KeptReplies(ArtefactStore(tmp_path / "cache"))


@pytest.fixture
def ask(provider: Any, kept: KeptReplies) -> Ask:
    """A question in a run of its own, which has asked another one before."""

    def once(
        system: str = "S",
        parts: tuple[Any, ...] = (),
        form: Form = FORM,
        model: str = "judge",
        max_tokens: int = 64,
        fresh: bool = False,
    ) -> Any:
        transcript = Transcript(kept)
        chat = OpenAIChat(
            f"{provider.url}/v1#{model}",
            "judge",
            transcript,
            Policy(retries=0),
            max_tokens=max_tokens,
        )
        first = Form(item_code("first"), "fits", (0, 1))
        chat.ask("S", [first.example(1)], "first", first)
        asked = len(provider.live)
        reply = chat.ask(system, [*parts, form.example(1)], "k", form, fresh=fresh)
        return reply, len(provider.live) - asked, transcript

    return once


def judged(
    script: ModuleType,
    folder: Path,
    provider: Any,
    n: int,
    kept: KeptReplies,
    *,
    batch: bool = False,
) -> Run:
    policy = replace(script.POLICY, timeout=60, total=120)
    run: Run = script.judge_all(folder, provider.url, n, policy, kept=kept, batch=batch)
    return run


def picture(level: int) -> Image.Image:
    return Image.new("RGB", (6, 4), (level, 0, 0))


def test_the_same_request_in_another_run_is_answered_from_before(ask: Ask) -> None:
    first, calls, _ = ask(parts=(picture(1),))
    again, more, transcript = ask(parts=(picture(1),))

    assert (calls, more) == (1, 0)
    assert (again.text, again.model, again.cached) == (first.text, first.model, True)
    entry = transcript.entries[-1]
    assert (entry["kept"], entry["served"], entry["usage"]) == (True, first.model, None)


@pytest.mark.parametrize(
    "other",
    [
        {"system": "T"},
        {"parts": (picture(2),)},
        {"parts": (picture(1), picture(1))},
        {"form": Form(item_code("verdict", "other"), "fits", (0, 1))},
        {"max_tokens": 65},
        {"model": "judge-2026"},
    ],
    ids=["prompt", "picture", "pictures", "form", "sampling", "model"],
)
def test_any_other_request_is_asked(ask: Ask, other: Any) -> None:
    ask(parts=(picture(1),))

    assert ask(**{"parts": (picture(1),), **other})[1] == 1


def test_another_endpoint_is_asked(ask: Ask, kept: KeptReplies) -> None:
    ask()
    (entry,) = [e for e in ask()[2].entries if e["key"] == "k"]

    assert kept.find(entry) is not None
    assert kept.find({**entry, "requested": "openai/judge"}) is None


def test_a_repeat_is_a_new_call_and_answers_no_later_one(ask: Ask) -> None:
    assert ask(fresh=True)[1] == 1
    assert ask()[1] == 1
    assert ask(fresh=True)[1] == 1
    assert ask()[1] == 0


def test_who_answers_today_is_asked_first_and_another_models_replies_are_left(
    ask: Ask, provider: Any
) -> None:
    ask()
    provider.model = "judge-2026-07-01"

    reply, calls, transcript = ask()

    assert (reply.model, calls) == ("judge-2026-07-01", 1)
    assert transcript.summary()["served"] == ["judge-2026-07-01"]


@pytest.mark.parametrize(("finish", "mumbles"), [("length", False), ("stop", True)])
def test_what_is_cut_off_or_not_in_the_form_is_not_kept(
    ask: Ask, provider: Any, finish: str, mumbles: bool
) -> None:
    provider.finish, provider.mumbles = finish, mumbles
    ask()

    assert ask()[1] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"reply": "1"}', None])
def test_a_damaged_reply_is_asked_for_again(ask: Ask, kept: KeptReplies, content: Any) -> None:
    _, _, transcript = ask()
    file = kept._file(transcript.entries[-1])
    if content is None:
        other = json.loads(file.read_text())
        content = json.dumps({**other, "request": "0" * 64})
    file.write_text(content)

    assert ask()[1] == 1
    assert ask()[1] == 0


def test_an_error_is_not_kept(ask: Ask, provider: Any) -> None:
    provider.model = "another"
    with pytest.raises(ChatError):
        ask()
    provider.model = "judge"

    assert ask()[1] == 1


def test_a_second_run_of_the_same_questions_makes_one_call_and_counts_what_it_did_not_pay(
    script: ModuleType, provider: Any, kept: KeptReplies, tmp_path: Path
) -> None:
    first = judged(script, tmp_path / "a", provider, 20, kept)
    asked = len(provider.live)
    second = judged(script, tmp_path / "b", provider, 20, kept)

    assert (asked, len(provider.live)) == (20, 21)
    assert second.lines("toy/judged") == first.lines("toy/judged")
    judge = second.document["judge"]
    assert (judge["calls"], judge["kept"], judge["prompt_tokens"]) == (1, 19, 100)
    assert "kept" not in first.document["judge"]
    assert len(second.judge()) == 20


def test_a_batch_takes_what_is_kept_and_keeps_what_it_brings(
    script: ModuleType, provider: Any, kept: KeptReplies, tmp_path: Path
) -> None:
    judged(script, tmp_path / "a", provider, 8, kept)
    judged(script, tmp_path / "b", provider, 20, kept, batch=True)
    judged(script, tmp_path / "c", provider, 20, kept)

    assert len(provider.batched) == 12
    assert len(provider.live) == 8 + 1 + 1


def test_replies_of_one_model_are_one_thing_in_the_cache(ask: Ask, kept: KeptReplies) -> None:
    ask()
    ask(system="T")

    (thing,) = kept.store.ls()
    assert thing.kind == KIND
    assert thing.key is not None
    assert thing.key["requested"].endswith("#judge")
    thing.remove()
    assert ask()[1] == 1
