"""A card that tells the truth, and an upload of no more than it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub.utils import filter_repo_objects
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import push, save_sae
from lmmsae_eval.sae.formats.card import last_metrics
from lmmsae_eval.sae.topk import TopK


class Hub:
    """What `HfApi` was asked for, and the files that its patterns let through."""

    asked: list[tuple[str, dict[str, Any]]]
    error: Exception | None = None

    def __init__(self) -> None:
        self.asked = []

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if self.error:
            raise self.error
        self.asked.append(("create", {"repo_id": repo_id, **options}))

    def upload_folder(self, *, folder_path: Path, allow_patterns: list[str], **options: Any) -> str:
        files = (str(f.relative_to(folder_path)) for f in folder_path.rglob("*") if f.is_file())
        sent = sorted(filter_repo_objects(files, allow_patterns=allow_patterns))
        self.asked.append(("upload", {"sent": sent, **options}))
        return "https://hub/commit/1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return hub


@pytest.fixture
def trained(sae: TopK, tmp_path: Path) -> Path:
    """What a training run leaves behind, with more than should go up."""
    for layer in (7, 24):
        hookpoint = f"model.layers.{layer}"
        save_sae(sae, tmp_path / hookpoint, {"hookpoint": hookpoint})
    (tmp_path / "config.json").write_text('{"model": "llava-hf/llama3-llava-next-8b-hf"}')
    lines = [
        {"step": step, "hookpoint": f"model.layers.{layer}", "lr": 0.1, "fvu": layer / step / 100}
        for step in (1, 2)
        for layer in (7, 24)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "state.pt").write_bytes(b"optimiser")
    (tmp_path / "model.layers.7" / "notes.txt").write_text("secret")
    return tmp_path


def test_the_card_has_a_row_for_each_hookpoint_with_its_last_metrics(
    trained: Path, hub: Hub
) -> None:
    told = push(trained, "me/llava-saes", dry_run=True)
    card = (trained / "README.md").read_text()
    assert told == str(trained / "README.md")
    assert "| hookpoint | architecture | latents | d_model | k | fvu |" in card
    assert "| model.layers.7 | topk | 24 | 8 | 3 | 0.035 |" in card
    assert "| model.layers.24 | topk | 24 | 8 | 3 | 0.12 |" in card
    assert 'load_sae("me/llava-saes")' in card
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["base_model"] == ["llava-hf/llama3-llava-next-8b-hf"]
    assert "sparse-autoencoder" in header["tags"]
    assert hub.asked == []


def test_the_saes_their_run_and_the_card_go_up_and_nothing_else(trained: Path, hub: Hub) -> None:
    assert push(trained, "me/llava-saes", private=True) == "https://hub/commit/1"
    (_, created), (_, uploaded) = hub.asked
    assert created == {"repo_id": "me/llava-saes", "private": True, "exist_ok": True}
    assert uploaded["repo_id"] == "me/llava-saes"
    assert uploaded["sent"] == [
        "README.md",
        "config.json",
        "metrics.jsonl",
        "model.layers.24/cfg.json",
        "model.layers.24/sae.safetensors",
        "model.layers.7/cfg.json",
        "model.layers.7/sae.safetensors",
    ]


def test_a_card_that_somebody_wrote_is_kept(trained: Path, hub: Hub) -> None:
    (trained / "README.md").write_text("by hand")
    push(trained, "me/llava-saes")
    assert (trained / "README.md").read_text() == "by hand"


def test_a_card_of_ours_follows_a_later_training(trained: Path, hub: Hub) -> None:
    push(trained, "me/llava-saes", dry_run=True)
    metrics = trained / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("0.035", "0.5"))

    push(trained, "me/llava-saes")

    assert "| 24 | 8 | 3 | 0.5 |" in (trained / "README.md").read_text()


def test_without_metrics_the_card_says_so(sae: TopK, tmp_path: Path, hub: Hub) -> None:
    save_sae(sae, tmp_path / "model.layers.7")
    push(tmp_path, "me/x", dry_run=True)
    card = (tmp_path / "README.md").read_text()
    assert "No metrics" in card
    assert "base_model" not in card


def test_names_from_a_checkpoint_are_text_in_the_card(sae: TopK, tmp_path: Path, hub: Hub) -> None:
    save_sae(sae, tmp_path / "a", {"hookpoint": "x|y\n# owned <script>"})
    (tmp_path / "config.json").write_text('{"model": "m\\n---\\nlicense: mit"}')
    push(tmp_path, "me/x", dry_run=True)
    card = (tmp_path / "README.md").read_text()
    assert "<script>" not in card
    assert "\n# owned" not in card
    assert "\nlicense" not in card


@pytest.mark.parametrize("repo", ["x", "a/b/c", "a/b@v1", "/a/b", ""])
def test_what_is_no_repository_is_refused(repo: str, trained: Path, hub: Hub) -> None:
    with pytest.raises(UsageError, match="owner/name"):
        push(trained, repo)


def test_a_broken_sae_is_not_pushed(trained: Path, hub: Hub) -> None:
    (trained / "model.layers.7" / "sae.safetensors").write_bytes(b"torn")
    with pytest.raises(UsageError, match="can't read SAE weights"):
        push(trained, "me/x")
    assert hub.asked == []


def test_a_refusal_of_the_hub_is_one_line_with_the_next_step(trained: Path, hub: Hub) -> None:
    hub.error = OSError("401 Client Error.\n\nInvalid token")
    with pytest.raises(UsageError, match="hf auth login") as error:
        push(trained, "me/x")
    assert "\n" not in str(error.value)


def test_metrics_that_are_not_finite_are_left_out_and_a_torn_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"hookpoint": "a", "fvu": NaN, "l0": 3, "note": "x", "ok": true}\n')
    assert last_metrics(path) == {"a": {"l0": 3}}
    path.write_text('{"hookpoint": "a"}\n{"hookp')
    with pytest.raises(UsageError, match="line 2 is no JSON object"):
        last_metrics(path)
