"""Digests of large files: read once, known again by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lmmsae_eval import digests
from lmmsae_eval.digests import known_sha256
from lmmsae_eval.harness.artefacts import ArtefactStore

OLD = 1_700_000_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and every file is large."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(folder))
    monkeypatch.setattr(digests, "LARGE", 1)
    digests._known.cache_clear()
    yield folder
    digests._known.cache_clear()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return written(tmp_path / "weights.bin", b"one", OLD)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is read as a whole."""
    seen: list[Path] = []
    read = digests._read
    monkeypatch.setattr(digests, "_read", lambda file: (seen.append(file), read(file))[1])
    return seen


def written(file: Path, content: bytes, when: float) -> Path:
    file.write_bytes(content)
    os.utime(file, (when, when))
    return file


def another_process() -> None:
    """What this process remembers by itself is gone."""
    digests._known.cache_clear()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.usefixtures("cache")
def test_a_file_is_read_once_by_all_processes_together(weights: Path, reads: list[Path]) -> None:
    first = known_sha256(weights)
    another_process()
    assert known_sha256(weights) == first == sha256(b"one")
    assert reads == [weights]


def test_a_real_second_process_finds_what_the_first_has_kept(cache: Path, weights: Path) -> None:
    known_sha256(weights)
    (entry,) = cache.glob("digests/*/key.json")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": "from the cache"}))

    code = (
        "import sys; from pathlib import Path; from lmmsae_eval import digests; digests.LARGE = 1;"
        "print(digests.known_sha256(Path(sys.argv[1])))"
    )
    words = [sys.executable, "-c", code, str(weights)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "from the cache\n"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("content", "when"), [(b"longer", OLD), (b"two", OLD + 10)], ids=["size", "time"]
)
def test_another_size_or_time_of_change_is_read_again(
    weights: Path, content: bytes, when: int
) -> None:
    known_sha256(weights)
    another_process()
    assert known_sha256(written(weights, content, when)) == sha256(content)


@pytest.mark.usefixtures("cache")
def test_the_same_name_in_another_folder_is_another_file(weights: Path, tmp_path: Path) -> None:
    known_sha256(weights)
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other" / weights.name, b"two", OLD)
    assert known_sha256(other) == sha256(b"two")


@pytest.mark.usefixtures("reads")
def test_a_file_that_was_changed_just_now_is_not_kept(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.bin"
    file.write_bytes(b"new")
    known_sha256(file)
    assert not cache.exists()


def test_small_files_are_simply_read(
    cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 4)
    assert known_sha256(weights) == sha256(b"one")
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["", "[]", "{}", "{"])
def test_a_damaged_entry_is_made_again(
    cache: Path, weights: Path, reads: list[Path], damage: str
) -> None:
    known_sha256(weights)
    (entry,) = cache.glob("digests/*/key.json")
    entry.write_text(damage)
    another_process()
    assert known_sha256(weights) == sha256(b"one")
    assert len(reads) == 2


def test_a_cache_that_can_not_be_written_only_costs_time(cache: Path, weights: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert known_sha256(weights) == sha256(b"one")


def test_the_cache_lists_digests_as_it_lists_everything(cache: Path, weights: Path) -> None:
    known_sha256(weights)
    (kept,) = ArtefactStore(cache).ls()
    assert kept.kind == "digests"
    assert kept.key is not None
    assert kept.key["path"] == str(weights)
    kept.remove()
    assert ArtefactStore(cache).everything() == []
