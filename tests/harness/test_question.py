"""The form of a reply: read strictly, and known to belong to its question."""

from __future__ import annotations

import pytest
from lmmsae_eval.harness.question import Form, item_code, request_sha256

FORM = Form("k7f3", "fits", (0, 1))


@pytest.mark.parametrize("answer", [0, 1])
def test_an_example_is_read_as_what_it_says(answer: int) -> None:
    assert FORM.read(FORM.example(answer)) == answer
    assert FORM.read(f"\n {FORM.example(answer)}\n") == answer


@pytest.mark.parametrize(
    "text",
    [
        *("1", "", "null", "[]", "{", '"k7f3"', '{"item": "k7f3"}', '{"fits": 1}'),
        *('{"item": "k7f3", "fits": 2}', '{"item": "k7f3", "fits": true}'),
        *('{"item": "k7f3", "fits": "1"}', '{"item": "k7f3", "fits": 1.0}'),
        *('{"item": "k7f3", "fits": null}', '{"item": "k7f3", "fits": 1, "why": "x"}'),
        *('{"item": "k7f3", "fits": 0, "fits": 1}', '{"item": "other", "fits": 1}'),
        *('{"item": "k7f3", "fits": 1} so', '```json\n{"item": "k7f3", "fits": 1}\n```'),
        *('{"item": "k7f3", "fits": NaN}', "[" * 100_000),
    ],
)
def test_anything_else_is_no_answer(text: str) -> None:
    assert FORM.read(text) is None


def test_a_reply_that_names_another_item_is_known() -> None:
    assert FORM.of_another('{"item": "other", "fits": 1}')
    assert not FORM.of_another(FORM.example(1))
    assert not FORM.of_another("1")


def test_the_schema_has_room_for_the_answers_alone() -> None:
    schema = FORM.schema()

    assert schema["properties"]["item"]["enum"] == ["k7f3"]
    assert schema["properties"]["fits"] == {"type": "integer", "enum": [0, 1]}
    assert schema["required"] == ["item", "fits"]
    assert schema["additionalProperties"] is False
    assert Form("i", "better", ("A", "B")).schema()["properties"]["better"]["type"] == "string"


def test_a_code_says_nothing_of_the_item_and_is_its_own() -> None:
    codes = {item_code("verdict", f"sae/model.layers.1/main/{i}/true") for i in range(500)}

    assert len(codes) == 500
    assert all(len(code) == 8 and "true" not in code for code in codes)


def test_another_form_is_another_question_and_none_is_as_before() -> None:
    plain = request_sha256("judge", "S", ["Q"], "k")

    assert plain == request_sha256("judge", "S", ["Q"], "k", None)
    assert plain != request_sha256("judge", "S", ["Q"], "k", FORM)
    other = Form("k7f4", "fits", (0, 1))
    assert request_sha256("judge", "S", ["Q"], "k", other) != request_sha256(
        "judge", "S", ["Q"], "k", FORM
    )
