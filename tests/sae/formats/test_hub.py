"""Hub ids, without a network: what is asked of huggingface_hub, and what its errors become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import load_sae, save_sae
from lmmsae_eval.sae.formats.hub import HubRef, parse
from lmmsae_eval.sae.topk import TopK


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A repository in a folder; `asked` is what a download was called with."""
    snapshot = tmp_path / "snapshot"
    state: dict[str, Any] = {"root": snapshot, "asked": None}

    def snapshot_download(repo_id: str, **options: Any) -> str:
        state["asked"] = {"repo_id": repo_id, **options}
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def test_a_hub_id_with_a_revision_loads_every_hookpoint(hub: dict[str, Any], sae: TopK) -> None:
    for layer in (24, 7):
        save_sae(sae, hub["root"] / f"model.layers.{layer}")
    loaded = load_sae("lmms-lab/llama3-llava-next-8b-hf-sae-131k@v1.0")
    assert [name for name, _ in loaded] == ["model.layers.7", "model.layers.24"]
    assert loaded[0][1].identity == sae.identity
    assert hub["asked"]["repo_id"] == "lmms-lab/llama3-llava-next-8b-hf-sae-131k"
    assert hub["asked"]["revision"] == "v1.0"
    assert "*.safetensors" in hub["asked"]["allow_patterns"]


def test_a_folder_of_a_repository_is_all_that_is_downloaded(hub: dict[str, Any], sae: TopK) -> None:
    save_sae(sae, hub["root"] / "gpt2" / "model.layers.3")
    [(name, _)] = load_sae("someone/saes/gpt2/model.layers.3")
    assert name == "model.layers.3"
    assert hub["asked"]["revision"] is None
    assert all(p.startswith("gpt2/model.layers.3/") for p in hub["asked"]["allow_patterns"])
    with pytest.raises(UsageError, match="has no folder gpt3"):
        load_sae("someone/saes/gpt3")


def test_a_folder_on_disk_comes_before_the_hub(
    hub: dict[str, Any], sae: TopK, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_sae(sae, tmp_path / "saes" / "mine")
    assert load_sae("saes/mine")[0][0] == "mine"
    assert hub["asked"] is None


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("Cannot find the requested files\nin the disk cache. "),
        OSError("connection refused"),
        ValueError("bad revision"),
    ],
)
def test_whatever_the_hub_says_is_one_line_that_names_the_repository(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuses)
    with pytest.raises(UsageError, match="no SAE folder at someone/saes@main, and the hub") as told:
        load_sae("someone/saes@main")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("a/b", HubRef("a/b")),
        ("a/b@v1", HubRef("a/b", "", "v1")),
        ("a/b@refs/pr/3", HubRef("a/b", "", "refs/pr/3")),
        ("a/b/c/d@v1", HubRef("a/b", "c/d", "v1")),
        ("a/b.c-d_e/", HubRef("a/b.c-d_e")),
        ("no-such-sae", None),
        ("/a/b", None),
        ("../a/b", None),
        ("./a/b", None),
        ("a/b/../../c", None),
        ("~/a/b", None),
        ("https://huggingface.co/a/b", None),
        ("", None),
    ],
)
def test_what_a_hub_id_is(ref: str, parsed: HubRef | None) -> None:
    assert parse(ref) == parsed
