"""What holds for each family: told from its files, computed as it computes, refused when broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from lmmsae_eval.cli.main import cli
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import load_sae
from torch import Tensor

HOOKPOINTS = {"peft": "model.layers.3.mlp.down_proj"}


def test_an_sae_of_any_family_reconstructs_as_its_own_library_does(
    layout: Any, x: Tensor, tmp_path: Path
) -> None:
    ref = layout.write(tmp_path, layout.tensors)
    [(name, sae)] = load_sae(ref)
    assert name == HOOKPOINTS.get(layout.family, "model.layers.3")
    exact = {key: tensor.double() for key, tensor in layout.tensors.items()}
    theirs = layout.reconstruct(exact, x.double())
    torch.testing.assert_close(sae.reconstruct(x).double(), theirs, rtol=1e-4, atol=1e-4)
    assert all(tensor.dtype == torch.float32 for tensor in sae.tensors)


def test_an_sae_of_any_family_is_listed(layout: Any, tmp_path: Path) -> None:
    layout.write(tmp_path / "deeper" / "still", layout.tensors)
    result = CliRunner().invoke(cli, ["ls", "saes", "--saes", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    listed = json.loads(result.output)
    mine = [sae for sae in listed if sae["folder"].startswith(str(tmp_path))]
    [(_, sae)] = load_sae(layout.write(tmp_path / "again", layout.tensors))
    assert [(m["latents"], m["k"], m["d_model"]) for m in mine] == [
        (sae.n_latents, sae.k or None, sae.d_model)
    ]


def test_half_precision_is_loaded_as_float32(layout: Any, x: Tensor, tmp_path: Path) -> None:
    halves = {key: tensor.bfloat16() for key, tensor in layout.tensors.items()}
    [(_, sae)] = load_sae(layout.write(tmp_path, halves))
    theirs = layout.reconstruct({key: t.double() for key, t in halves.items()}, x.double())
    torch.testing.assert_close(sae.reconstruct(x).double(), theirs, rtol=1e-4, atol=1e-4)


def test_every_matrix_that_is_transposed_is_named_so(layout: Any, tmp_path: Path) -> None:
    matrices = [key for key, tensor in layout.tensors.items() if tensor.dim() == 2]
    for number, key in enumerate(matrices):
        turned = layout.tensors | {key: layout.tensors[key].T.contiguous()}
        with pytest.raises(UsageError) as error:
            load_sae(layout.write(tmp_path / str(number), turned))
        _is_one_line_about(error, layout, key)
        assert "is transposed" in str(error.value)


def test_a_missing_or_unknown_tensor_is_named(layout: Any, tmp_path: Path) -> None:
    for number, key in enumerate(layout.tensors):
        rest = {name: tensor for name, tensor in layout.tensors.items() if name != key}
        with pytest.raises(UsageError, match="lacks") as error:
            load_sae(layout.write(tmp_path / str(number), rest))
        _is_one_line_about(error, layout, key)
    with pytest.raises(UsageError, match="unknown tensors") as error:
        load_sae(layout.write(tmp_path / "more", layout.tensors | {"sae_skip": torch.eye(8)}))
    _is_one_line_about(error, layout, "sae_skip")


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_tensor_with_one_bad_number_is_named(layout: Any, tmp_path: Path, poison: float) -> None:
    for number, (key, tensor) in enumerate(layout.tensors.items()):
        bad = tensor.clone()
        bad.view(-1)[-1] = poison
        with pytest.raises(UsageError, match="NaN or infinity") as error:
            load_sae(layout.write(tmp_path / str(number), layout.tensors | {key: bad}))
        _is_one_line_about(error, layout, key)


def test_integers_are_no_weights(layout: Any, tmp_path: Path) -> None:
    key = next(iter(layout.tensors))
    broken = layout.tensors | {key: layout.tensors[key].int()}
    with pytest.raises(UsageError, match="no tensor of floats") as error:
        load_sae(layout.write(tmp_path, broken))
    _is_one_line_about(error, layout, key)


@pytest.mark.parametrize("damage", ["empty", "torn", "text"])
def test_a_damaged_file_is_named(layout: Any, tmp_path: Path, damage: str) -> None:
    ref = layout.write(tmp_path, layout.tensors)
    [file] = tmp_path.rglob(layout.weights)
    whole = file.read_bytes()
    file.write_bytes({"empty": b"", "torn": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(UsageError, match="can't read SAE weights") as error:
        load_sae(ref)
    _is_one_line_about(error, layout, "")


def test_a_file_that_vanished_is_named(layout: Any, tmp_path: Path) -> None:
    ref = layout.write(tmp_path, layout.tensors)
    for file in [*tmp_path.rglob("*.json"), *tmp_path.rglob(layout.weights)]:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(UsageError) as error:
            load_sae(ref)
        assert "\n" not in str(error.value)
        file.write_bytes(content)


def _is_one_line_about(error: pytest.ExceptionInfo[UsageError], layout: Any, key: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert layout.weights in message
    assert key in message
