"""Built once per content key, on disk whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore, cache_root

KEY = {"model": "m", "layers": [1, 2]}


class Builder:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[int]:
        self.calls += 1
        return [1, 2, 3]


def save(value: list[int], folder: Path) -> None:
    (folder / "value.json").write_text(json.dumps(value))


def load(folder: Path) -> list[int]:
    return list(json.loads((folder / "value.json").read_text()))


def test_a_thing_is_built_once_per_process_even_without_a_disk() -> None:
    store, build = ArtefactStore(), Builder()

    assert store.get("numbers", KEY, build) is store.get(
        "numbers", dict(reversed(KEY.items())), build
    )
    assert build.calls == 1


def test_another_key_or_kind_is_another_thing() -> None:
    store, build = ArtefactStore(), Builder()
    store.get("numbers", KEY, build)
    store.get("numbers", KEY | {"seed": 1}, build)
    store.get("letters", KEY, build)

    assert build.calls == 3


def test_a_saved_thing_survives_the_process(tmp_path: Path) -> None:
    build = Builder()
    first = ArtefactStore(tmp_path).get("numbers", KEY, build, save, load)
    second = ArtefactStore(tmp_path).get("numbers", KEY, build, save, load)

    assert first == second == [1, 2, 3]
    assert build.calls == 1


def test_what_is_on_disk_is_listed_with_its_key(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    store.get("numbers", KEY, Builder(), save, load)

    (found,) = store.ls()
    assert (found.kind, found.key) == ("numbers", KEY)
    assert load(found.path) == [1, 2, 3]


def test_a_save_that_breaks_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    def breaks(value: list[int], folder: Path) -> None:
        save(value, folder)
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError, match="killed here"):
        ArtefactStore(tmp_path).get("numbers", KEY, Builder(), breaks, load)

    build = Builder()
    assert ArtefactStore(tmp_path).ls() == []
    assert ArtefactStore(tmp_path).get("numbers", KEY, build, save, load) == [1, 2, 3]
    assert build.calls == 1


def test_what_a_killed_process_left_half_written_is_not_seen_and_swept_away_later(
    tmp_path: Path,
) -> None:
    half = tmp_path / "numbers" / ".unfinished-x"
    half.mkdir(parents=True)
    (half / "key.json").write_text("{}")
    os.utime(half, (0, 0))
    store = ArtefactStore(tmp_path)

    assert store.ls() == []
    store.get("numbers", KEY, Builder(), save, load)
    assert not half.exists()


def test_the_faster_of_two_processes_wins_and_the_other_is_content(tmp_path: Path) -> None:
    def slower(value: list[int], folder: Path) -> None:
        ArtefactStore(tmp_path).get("numbers", KEY, Builder(), save, load)
        save(value, folder)

    assert ArtefactStore(tmp_path).get("numbers", KEY, Builder(), slower, load) == [1, 2, 3]
    assert len(ArtefactStore(tmp_path).ls()) == 1


def test_a_damaged_thing_is_one_clear_line_that_names_the_folder(tmp_path: Path) -> None:
    ArtefactStore(tmp_path).get("numbers", KEY, Builder(), save, load)
    (found,) = ArtefactStore(tmp_path).ls()
    (found.path / "value.json").write_text("{")

    with pytest.raises(UsageError, match=f"{found.path.name}.*delete that folder"):
        ArtefactStore(tmp_path).get("numbers", KEY, Builder(), save, load)


def test_what_a_loader_says_of_a_damaged_thing_comes_with_the_folder_to_delete(
    tmp_path: Path,
) -> None:
    def complaining(folder: Path) -> list[int]:
        raise UsageError(f"can't read {folder / 'cfg.json'}")

    ArtefactStore(tmp_path).get("numbers", KEY, Builder(), save, load)

    with pytest.raises(UsageError, match=r"cfg\.json\); delete that folder and try again"):
        ArtefactStore(tmp_path).get("numbers", KEY, Builder(), save, complaining)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b""])
def test_a_thing_with_a_damaged_key_is_passed_over_and_made_again(
    tmp_path: Path, content: bytes
) -> None:
    store, build = ArtefactStore(tmp_path), Builder()
    store.get("numbers", {"n": 2}, build, save, load)
    store.get("numbers", KEY, build, save, load)
    damaged = next(a.path for a in store.ls() if a.key == KEY)
    (damaged / "key.json").write_bytes(content)

    assert [a.key for a in store.ls()] == [{"n": 2}]
    assert sorted(a.key is None for a in store.everything()) == [False, True]
    assert ArtefactStore(tmp_path).get("numbers", KEY, build, save, load) == [1, 2, 3]
    assert build.calls == 3
    assert len(store.ls()) == 2


def test_a_full_disk_stops_the_run_instead_of_becoming_an_error_of_a_sample(tmp_path: Path) -> None:
    def full(value: list[int], folder: Path) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x")

    with pytest.raises(IncompleteError, match="no space left"):
        ArtefactStore(tmp_path).get("numbers", KEY, Builder(), full, load)


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("LMMSAE_EVAL_CACHE")
    assert "lmmsae-eval" in cache_root().parts[-1]
