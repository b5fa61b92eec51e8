"""`cache`: what is kept is seen, goes when unused, and comes back when it is needed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from lmmsae_eval.harness.artefacts import ArtefactStore, cache_root

Type = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path / "cache"))


def keep(kind: str, key: str, content: str = "x" * 1000) -> str:
    """Through the store, from disk if it is there; says what it holds."""

    def load(folder: Path) -> str:
        return (folder / "thing").read_text()

    def save(thing: str, folder: Path) -> None:
        (folder / "thing").write_text(thing)

    return ArtefactStore(cache_root()).get(kind, {"of": key}, lambda: content, save, load)


def age(kind: str, days: float) -> None:
    then = time.time() - days * 24 * 3600
    for file in cache_root().glob(f"{kind}/*/key.json"):
        os.utime(file, (then, then))


def kept(type_command: Type) -> list[str]:
    return [a["kind"] for a in json.loads(type_command("cache", "ls", "--json").stdout)]


def test_an_empty_cache_is_no_error(type_command: Type) -> None:
    assert type_command("cache", "ls").exit_code == 0
    assert type_command("cache", "prune").output == "removed 0 things, 0.0 MB\n"
    assert type_command("cache", "path").output.strip() == str(cache_root())


def test_what_is_kept_is_listed_with_its_size_oldest_first(type_command: Type) -> None:
    keep("sae", "a", "x" * 2_000_000)
    keep("explanations", "b")
    age("explanations", 3)

    lines = type_command("cache", "ls").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["kind", "explanations", "sae"]
    assert "2.0 MB" in lines[2]
    assert kept(type_command) == ["explanations", "sae"]


def test_prune_removes_what_nothing_has_used_for_long(type_command: Type) -> None:
    keep("old", "a")
    keep("used", "a")
    keep("new", "a")
    age("old", 40)
    age("used", 40)
    assert keep("used", "a", "never built") == "x" * 1000

    assert type_command("cache", "prune").output.startswith("removed 1 things")
    assert sorted(kept(type_command)) == ["new", "used"]


def test_one_damaged_key_is_named_and_cleared_and_stops_nothing(type_command: Type) -> None:
    keep("sae", "a")
    keep("other", "b")
    (file,) = cache_root().glob("sae/*/key.json")
    file.write_text("{")

    listed = type_command("cache", "ls")

    assert listed.exit_code == 0
    assert f"damaged: {file.parent}; `cache clear` removes it" in listed.stderr
    assert kept(type_command) == ["other"]
    assert type_command("ls", "saes").exit_code == 0
    assert type_command("doctor", "--json").exit_code == 0
    assert type_command("cache", "clear", "--yes").output.startswith("removed 2 things")
    assert not file.exists()


def test_an_sae_kept_under_another_kind_of_key_is_listed_all_the_same(type_command: Type) -> None:
    keep("sae", "a")
    (file,) = cache_root().glob("sae/*/key.json")
    cfg = {"num_latents": 8, "k": 2, "d_in": 4}
    file.with_name("cfg.json").write_text(json.dumps(cfg))

    (row,) = json.loads(type_command("ls", "saes", "--json").stdout)

    assert (row["hookpoint"], row["latents"]) == (file.parent.name, 8)


def test_clear_asks_first_and_can_be_told_which(type_command: Type) -> None:
    keep("sae", "a")
    keep("explanations", "a")

    refused = type_command("cache", "clear", input="n\n")
    assert refused.exit_code == 130
    assert "Error: stopped" in refused.stderr
    assert len(kept(type_command)) == 2
    assert type_command("cache", "clear", "--kind", "sae", "--yes").exit_code == 0
    assert kept(type_command) == ["explanations"]
    assert keep("sae", "a", "made again") == "made again"
