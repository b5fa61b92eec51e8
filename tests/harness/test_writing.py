"""Files are whole or absent; lines survive everything but their own tail."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.harness import writing
from lmmsae_eval.harness.writing import (
    append_bytes,
    clear_errors,
    encode_line,
    read_lines,
    replace_bytes,
    replace_json,
)


def test_numpy_values_become_plain_json() -> None:
    import numpy as np

    line = {"a": np.float32(0.5), "b": np.arange(3), "c": np.int64(7), "d": np.bool_(True)}
    assert encode_line(line) == b'{"a": 0.5, "b": [0, 1, 2], "c": 7, "d": true}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_is_not_json_is_refused_and_not_written_as_something_else(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode_line({"x": value})


@given(st.lists(st.dictionaries(st.text(), st.text()), max_size=5), st.integers(0, 400))
@settings(deadline=None)
def test_a_file_torn_anywhere_loses_at_most_its_tail_and_can_be_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, str]], cut: int
) -> None:
    file = tmp_path_factory.mktemp("torn") / "lines.jsonl"
    lines = [encode_line(value) for value in values]
    file.write_bytes(b"".join(lines)[:cut])
    kept = read_lines(file)
    append_bytes(file, encode_line({"next": 1}))

    assert kept == values[: len(kept)]
    assert sum(map(len, lines[: len(kept) + 1])) >= min(cut, sum(map(len, lines)))
    assert read_lines(file) == [*kept, {"next": 1}]


def test_damage_in_the_middle_of_a_file_is_not_passed_over(tmp_path: Path) -> None:
    for middle in (b'{"b":', b"", b"[2]"):
        (tmp_path / "x").write_bytes(b'{"a": 1}\n' + middle + b'\n{"c": 3}\n')
        with pytest.raises(UsageError, match="is damaged"):
            read_lines(tmp_path / "x")


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none") == []


def test_replacing_leaves_the_old_file_when_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_json(tmp_path / "x", {"old": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(IncompleteError, match="no space left"):
        replace_json(tmp_path / "x", {"new": 2})

    assert (tmp_path / "x").read_text() == '{\n "old": 1\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_a_full_device_is_one_line_that_says_what_to_do() -> None:
    with pytest.raises(IncompleteError, match="free some space") as caught:
        append_bytes(Path("/dev/full"), b"x")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_folder_that_may_not_be_written_is_a_usage_error(code: int) -> None:
    with pytest.raises(UsageError, match="choose another folder"), clear_errors(Path("x")):
        raise OSError(code, "no")


def test_other_failures_of_the_system_are_not_disguised() -> None:
    with pytest.raises(OSError, match="broken"), clear_errors(Path("x")):
        raise OSError(errno.EIO, "broken")


def test_parents_are_made(tmp_path: Path) -> None:
    replace_bytes(tmp_path / "a" / "b", b"x")
    append_bytes(tmp_path / "c" / "d", b"x\n")
    assert (tmp_path / "a" / "b").read_bytes() == b"x"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which none can be made")
def test_a_folder_that_can_not_be_made_is_one_line() -> None:
    with pytest.raises(UsageError, match="choose another folder"):
        replace_json(Path("/proc/lmmsae-eval/run.json"), {})
