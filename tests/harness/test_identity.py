"""Keys depend on content alone, and on all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lmmsae_eval.harness.identity import (
    canonical,
    comparability_key,
    file_sha256,
    identity_key,
    run_id,
    sha256,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


# How fast values are drawn is a matter of the machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.text(), JSON))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert sha256(value) == sha256(dict(reversed(value.items())))


@given(JSON, JSON)
def test_different_values_have_different_texts(a: Any, b: Any) -> None:
    assert (canonical(a) == canonical(b)) == (repr_of(a) == repr_of(b))


def repr_of(value: Any) -> str:
    """Tells 1, 1.0 and True apart, as JSON does, but not the order of keys."""
    if isinstance(value, dict):
        return f"dict {sorted((key, repr_of(item)) for key, item in value.items())}"
    return str([repr_of(item) for item in value]) if isinstance(value, list) else repr(value)


def test_what_is_not_json_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256({"x": float("nan")})
    with pytest.raises(TypeError):
        sha256({"x": object()})


def test_a_key_is_the_same_in_every_process_and_release() -> None:
    text = '{"a":[1,2.5,null],"ä":true}'
    assert canonical({"ä": True, "a": [1, 2.5, None]}) == text
    assert sha256({"ä": True, "a": [1, 2.5, None]}) == hashlib.sha256(text.encode()).hexdigest()


def test_a_file_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_identity_depends_on_tasks_and_parts_and_comparability_not_on_task_order() -> None:
    tasks = [{"name": "iou", "version": 1}, {"name": "clip", "version": 1}]

    assert identity_key(tasks, {"seed": 0}) != identity_key(tasks, {"seed": 1})
    assert identity_key(tasks, {}) != identity_key([tasks[0] | {"version": 2}, tasks[1]], {})
    assert comparability_key(tasks, {}) == comparability_key(reversed(tasks), {})


def test_a_run_id_is_short_readable_and_one_path_component() -> None:
    assert run_id(["iou", "halluc"], "0123456789abcdef") == "iou-halluc-0123456789ab"
    assert run_id(["pkg/task"], "0" * 64) == "pkg.task-000000000000"
    assert len(run_id(["a_long_task_name"] * 20, "0" * 64)) < 100
