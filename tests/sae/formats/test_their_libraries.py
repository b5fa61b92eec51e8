"""What we write, read by the libraries themselves. Skipped where they are not installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.formats import convert, save_sae
from torch import Tensor

CLASSES = {
    "topk": "trainers.top_k:AutoEncoderTopK",
    "batch_topk": "trainers.batch_top_k:BatchTopKSAE",
    "matryoshka": "trainers.matryoshka_batch_top_k:MatryoshkaBatchTopKSAE",
    "jump_relu": "dictionary:JumpReluAutoEncoder",
    "gated": "dictionary:GatedAutoEncoder",
}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_saelens_reconstructs_what_we_do(
    name: str, sae_of_kind: Any, x: Tensor, tmp_path: Path
) -> None:
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is not installed")
    ours = sae_of_kind(name)
    save_sae(ours, tmp_path / "ours" / "model.layers.3")
    [place] = convert(tmp_path / "ours", tmp_path / "theirs", "saelens")
    theirs = sae_lens.SAE.load_from_disk(place)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), ours.reconstruct(x), rtol=1e-4, atol=1e-4)
        fired = (theirs.encode(x) > 0).sum(1)
    assert torch.equal(fired, (ours.encode(x).values > 0).sum(1))


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_dictionary_learning_reconstructs_what_we_do(
    name: str, sae_of_kind: Any, x: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("dictionary_learning", reason="dictionary_learning is not installed")
    module, _, kind = CLASSES[name].partition(":")
    library = import_module(f"dictionary_learning.{module}")
    ours = sae_of_kind(name)
    save_sae(ours, tmp_path / "ours" / "model.layers.3")
    [place] = convert(tmp_path / "ours", tmp_path / "theirs", "dictionary_learning")
    theirs = getattr(library, kind).from_pretrained(place / "ae.pt")
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), ours.reconstruct(x), rtol=1e-4, atol=1e-4)
        fired = (theirs.encode(x) > 0).sum(1)
    assert torch.equal(fired, (ours.encode(x).values > 0).sum(1))
