"""openai v5: a torch file without a cfg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import convert, load_sae
from torch import Tensor


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "ReLU", "activation_state_dict": {}},
        {"activation_state_dict": {"k": 3, "postact_fn": "Identity"}},
        {"activation_state_dict": {}},
        {"activation_state_dict": {"k": 99, "postact_fn": "ReLU"}},
    ],
    ids=["of relu", "of signed latents", "without k", "of too many latents"],
)
def test_an_activation_that_is_no_topk_of_relu_is_refused(
    change: dict[str, Any], openai: Any, tmp_path: Path
) -> None:
    file = openai.write(tmp_path, openai.tensors)
    torch.save(torch.load(file, weights_only=True) | change, file)
    with pytest.raises(UsageError) as error:
        load_sae(file)
    assert "\n" not in str(error.value)


def test_layer_norm_survives_in_saelens_alone(openai: Any, x: Tensor, tmp_path: Path) -> None:
    file = openai.write(tmp_path, openai.tensors)
    [(_, sae)] = load_sae(file)
    convert(file, tmp_path / "lens", "saelens")
    [(_, back)] = load_sae(tmp_path / "lens")
    torch.testing.assert_close(back.reconstruct(x), sae.reconstruct(x), rtol=1e-4, atol=1e-4)
    for family in ("sparsify", "dictionary_learning", "peft"):
        with pytest.raises(UsageError, match="can't express the layer_norm_topk SAE"):
            convert(file, tmp_path / family, family)


def test_another_file_is_told_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="give the folder"):
        load_sae(tmp_path / "notes.txt")
