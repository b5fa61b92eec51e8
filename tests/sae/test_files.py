"""Files are whole or absent, also on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.sae.files import told_in_one_line, write_atomically
from lmmsae_eval.sae.formats import load_sae, save_sae
from lmmsae_eval.sae.topk import TopK


def disk_full(self: Path, data: bytes) -> int:
    with self.open("wb") as file:
        file.write(data[:10])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))


def test_a_full_disk_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "a.json", "old")
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.json", "a new and longer content")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_full_disk_is_told_in_one_line_and_leaves_no_half_sae(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(IncompleteError, match="No space left on device; free space") as error:
        save_sae(TopK.random(8, 4, 2, seed=0), tmp_path / "model.layers.0")
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="holds no SAE"):
        load_sae(tmp_path)


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), told_in_one_line(Path("x")):
        raise ZeroDivisionError


def test_a_folder_that_can_not_be_written_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another folder"), told_in_one_line(tmp_path):
        (tmp_path / "nowhere" / "file").write_text("x")
