"""The sparsify layout, both ways, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import bind_saes, load_sae, save_sae
from lmmsae_eval.sae.lmm import LMM
from lmmsae_eval.sae.topk import TopK
from safetensors.torch import load_file, save_file


@pytest.fixture
def sae() -> TopK:
    return TopK.random(
        16, 8, 3, seed=0, b_dec=torch.randn(8, generator=torch.Generator().manual_seed(1))
    )


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


def test_decode_of_encode_survives_save_and_load(sae: TopK, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "model.layers.3")
    [(name, loaded)] = load_sae(tmp_path)
    x = torch.randn(40, 8)
    assert name == "model.layers.3"
    assert torch.equal(loaded.reconstruct(x), sae.reconstruct(x))
    assert torch.equal(loaded.encode(x).indices, sae.encode(x).indices)
    assert loaded.identity == sae.identity


def test_saes_of_several_hookpoints_come_in_the_order_of_the_layers(
    sae: TopK, tmp_path: Path
) -> None:
    for layer in (10, 2, 0):
        save_sae(sae.untrained(layer), tmp_path / f"model.layers.{layer}")
    assert [name for name, _ in load_sae(tmp_path)] == [f"model.layers.{i}" for i in (0, 2, 10)]
    [(name, _)] = load_sae(tmp_path, hookpoint="layers.2")
    assert name == "model.layers.2"


def test_a_flat_checkpoint_takes_its_hookpoint_from_its_cfg_or_its_folder(
    sae: TopK, tmp_path: Path
) -> None:
    save_sae(sae, tmp_path / "flat", {"hookpoint": "layers.24"})
    save_sae(sae, tmp_path / "model.layers.5")
    assert load_sae(tmp_path / "flat")[0][0] == "layers.24"
    assert load_sae(tmp_path / "model.layers.5")[0][0] == "model.layers.5"


SIZES = {"expansion_factor": 2, "num_latents": 16, "k": 3, "d_in": 8}
PUBLISHED = {"normalize_decoder": True, "multi_topk": False}
CFGS = {
    "of today": SIZES
    | PUBLISHED
    | {"activation": "topk", "skip_connection": False, "transcode": False},
    "of the published SAE": SIZES | PUBLISHED,
    "with the oldest key": SIZES | PUBLISHED | {"signed": False},
    "with a key from the future": SIZES | {"quantum": {"entangled": True}},
}


@pytest.mark.parametrize("cfg", CFGS.values(), ids=CFGS.keys())
def test_a_sparsify_cfg_of_any_age_loads(sae: TopK, tmp_path: Path, cfg: dict[str, object]) -> None:
    save_sae(sae, tmp_path / "layers.1")
    (tmp_path / "layers.1" / "cfg.json").write_text(json.dumps(cfg))
    [(name, loaded)] = load_sae(tmp_path)
    assert (name, loaded.k) == ("layers.1", 3)


def test_bfloat16_weights_load_as_float32(sae: TopK, tmp_path: Path) -> None:
    folder = save_sae(sae, tmp_path / "layers.1")
    halves = {
        key: tensor.bfloat16() for key, tensor in load_file(folder / "sae.safetensors").items()
    }
    save_file(halves, folder / "sae.safetensors")
    [(_, loaded)] = load_sae(tmp_path)
    assert loaded.W_enc.dtype == torch.float32
    torch.testing.assert_close(loaded.W_enc, sae.W_enc, rtol=1e-2, atol=1e-2)


def test_the_files_are_exactly_sparsifys(sae: TopK, tmp_path: Path) -> None:
    folder = save_sae(sae, tmp_path / "layers.1")
    shapes = {
        key: tuple(tensor.shape) for key, tensor in load_file(folder / "sae.safetensors").items()
    }
    assert shapes == {
        "encoder.weight": (16, 8),
        "encoder.bias": (16,),
        "W_dec": (16, 8),
        "b_dec": (8,),
    }
    assert sorted(file.name for file in folder.iterdir()) == ["cfg.json", "sae.safetensors"]
    assert json.loads((folder / "cfg.json").read_text()).keys() == CFGS["of today"].keys()


BROKEN = {
    "a transposed decoder": lambda t: t | {"W_dec": t["W_dec"].T.contiguous()},
    "a short bias": lambda t: t | {"encoder.bias": t["encoder.bias"][:3].clone()},
    "a missing tensor": lambda t: {key: tensor for key, tensor in t.items() if key != "b_dec"},
    "an unknown tensor": lambda t: t | {"W_skip": torch.eye(8)},
    "a NaN": lambda t: t | {"b_dec": torch.full((8,), float("nan"))},
    "a flat encoder": lambda t: t | {"encoder.weight": t["encoder.weight"].reshape(-1)},
}


@pytest.mark.parametrize("breakage", BROKEN)
def test_wrong_tensors_do_not_load(sae: TopK, tmp_path: Path, breakage: str) -> None:
    folder = save_sae(sae, tmp_path / "layers.1")
    tensors = load_file(folder / "sae.safetensors")
    save_file(BROKEN[breakage](tensors), folder / "sae.safetensors")
    with pytest.raises(UsageError) as error:
        load_sae(tmp_path)
    assert "sae.safetensors" in one_line(error)


@pytest.mark.parametrize(
    "cfg",
    [
        '{"k": 99, "d_in": 8}',
        '{"k": 3, "d_in": 9}',
        "{}",
        "[1]",
        "{",
        '{"k": 3, "transcode": true}',
    ],
)
def test_a_cfg_that_contradicts_the_weights_does_not_load(
    sae: TopK, tmp_path: Path, cfg: str
) -> None:
    folder = save_sae(sae, tmp_path / "layers.1")
    (folder / "cfg.json").write_text(cfg)
    with pytest.raises(UsageError) as error:
        load_sae(tmp_path)
    one_line(error)


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", None])
def test_corrupt_or_missing_weights_give_one_line(
    sae: TopK, tmp_path: Path, damage: bytes | None
) -> None:
    weights = save_sae(sae, tmp_path / "layers.1") / "sae.safetensors"
    if damage is None:
        weights.unlink()
    else:
        weights.write_bytes(damage)
    with pytest.raises(UsageError) as error:
        load_sae(tmp_path)
    one_line(error)


def test_a_missing_folder_an_empty_one_and_an_absent_hookpoint_each_give_one_line(
    sae: TopK, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no SAE folder"):
        load_sae(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no SAE"):
        load_sae(tmp_path)
    save_sae(sae, tmp_path / "layers.1")
    with pytest.raises(UsageError, match=r"no SAE for layers\.7; it has layers\.1"):
        load_sae(tmp_path, hookpoint="layers.7")


def test_a_folder_that_cannot_be_written_gives_one_line(sae: TopK, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="can't write") as error:
        save_sae(sae, tmp_path / "file" / "layers.1")
    one_line(error)


def test_an_sae_is_bound_to_the_hookpoint_of_its_name(linear_lmm: LMM, sae: TopK) -> None:
    [bound] = bind_saes(linear_lmm, [("layers.2", sae)], "mine")
    assert (bound.name, bound.hookpoint.name, bound.hookpoint.layer) == (
        "mine",
        "model.layers.2",
        3,
    )
    assert bound.identity == sae.identity


def test_an_sae_of_another_width_or_depth_is_refused_in_one_line(
    linear_lmm: LMM, sae: TopK
) -> None:
    with pytest.raises(UsageError, match="d_model 4 but linear toy has 8") as error:
        bind_saes(linear_lmm, [("layers.2", TopK.random(6, 4, 2, 0))], "mine")
    one_line(error)
    with pytest.raises(UsageError) as error:
        bind_saes(linear_lmm, [("layers.9", sae)], "mine")
    one_line(error)
