"""What holds for each architecture in each layout that has words for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.formats import convert, load_sae, save_sae
from lmmsae_eval.sae.sae import SAE
from safetensors.torch import load_file, save_file
from torch import Tensor

Make = Callable[[str], SAE]
EVERY = pytest.mark.parametrize("name", sorted(ARCHITECTURES))
MEAN = torch.linspace(-1, 1, 8, dtype=torch.float64)
MATRIX = torch.randn(8, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@EVERY
@pytest.mark.parametrize("way", [("saelens",), ("dictionary_learning",)], ids=lambda way: way[0])
def test_there_and_back_it_is_the_same_sae(
    name: str, way: tuple[str], sae_of_kind: Make, x: Tensor, tmp_path: Path
) -> None:
    made = sae_of_kind(name)
    save_sae(made, tmp_path / "here" / "model.layers.3")
    convert(tmp_path / "here", tmp_path / "there", *way)
    convert(tmp_path / "there", tmp_path / "back", "sparsify")
    [(hookpoint, back)] = load_sae(tmp_path / "back")
    assert (hookpoint, type(back), back.k) == ("model.layers.3", type(made), made.k)
    if (name, *way) == ("jump_relu", "dictionary_learning"):  # its biases are folded and unfolded
        torch.testing.assert_close(back.reconstruct(x), made.reconstruct(x))
        assert torch.equal(back.encode(x).indices, made.encode(x).indices)
    else:
        assert back.identity == made.identity


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"topk"}))
def test_peft_has_no_words_for_it(name: str, sae_of_kind: Make, tmp_path: Path) -> None:
    save_sae(sae_of_kind(name), tmp_path / "here" / "model.layers.3")
    with pytest.raises(UsageError, match=f"PEFT layout can't express the {name} SAE") as error:
        convert(tmp_path / "here", tmp_path / "there", "peft")
    assert "\n" not in str(error.value)


TENSORS = {
    "jump_relu": {"W_enc": (8, 24), "b_enc": (24,), "threshold": (24,)},
    "gated": {"W_enc": (8, 24), "b_gate": (24,), "b_mag": (24,), "r_mag": (24,)},
}
TENSORS |= dict.fromkeys(("batch_topk", "matryoshka"), TENSORS["jump_relu"])


@pytest.mark.parametrize("name", sorted(TENSORS))
def test_saelens_files_have_its_keys_alone(name: str, sae_of_kind: Make, tmp_path: Path) -> None:
    save_sae(sae_of_kind(name), tmp_path / "here" / "model.layers.3")
    [place] = convert(tmp_path / "here", tmp_path / "there", "saelens")
    tensors = load_file(place / "sae_weights.safetensors")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    assert shapes == TENSORS[name] | {"W_dec": (24, 8), "b_dec": (8,)}
    cfg = json.loads((place / "cfg.json").read_text())
    keys = "architecture d_in d_sae dtype device apply_b_dec_to_input normalize_activations"
    assert cfg.keys() == {*keys.split(), "reshape_activations", "metadata"}
    assert cfg["architecture"] == ("gated" if name == "gated" else "jumprelu")


def _change(folder: Path, cfg: Mapping[str, Any]) -> Path:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(cfg)))
    return folder


SWITCHES: dict[str, dict[str, Any]] = {
    "an encoder of x itself": {"apply_b_dec_to_input": False},
    "a scaled input": {"normalize_activations": "expected_average_only_in"},
    "a whitened input": {"normalize_activations": "covariance_whitening"},
}
SWITCHES["both"] = SWITCHES["an encoder of x itself"] | SWITCHES["a whitened input"]


def _their_reconstruction(t: Mapping[str, Tensor], x: Tensor, cfg: Mapping[str, Any]) -> Tensor:
    kind = cfg.get("normalize_activations")
    z = {"expected_average_only_in": x * 0.3, "covariance_whitening": (x - MEAN) @ MATRIX}.get(
        str(kind), x
    )
    raw = (z - t["b_dec"] * cfg.get("apply_b_dec_to_input", True)) @ t["W_enc"]
    if "b_gate" in t:
        acts = (raw + t["b_gate"] > 0) * (t["r_mag"].exp() * raw + t["b_mag"]).relu()
    else:
        acts = (raw + t["b_enc"]).relu() * (raw + t["b_enc"] > t["threshold"])
    out = acts @ t["W_dec"] + t["b_dec"]
    inverse = torch.linalg.inv(MATRIX)
    back = {"expected_average_only_in": out / 0.3, "covariance_whitening": out @ inverse + MEAN}
    return back.get(str(kind), out)


@pytest.mark.parametrize("cfg", SWITCHES.values(), ids=SWITCHES.keys())
@pytest.mark.parametrize("name", ["jump_relu", "gated"])
def test_a_switch_of_saelens_cfg_is_folded_into_thresholds_and_gates_too(
    name: str, cfg: dict[str, Any], sae_of_kind: Make, x: Tensor, tmp_path: Path
) -> None:
    save_sae(sae_of_kind(name), tmp_path / "here" / "model.layers.3")
    [place] = convert(tmp_path / "here", tmp_path / "there", "saelens")
    (place / "activation_scaler.json").write_text('{"scaling_factor": 0.3}')
    inverse = torch.linalg.inv(MATRIX).contiguous()
    save_file(
        {"mean": MEAN, "matrix": MATRIX, "inverse_matrix": inverse},
        place / "activation_whitening.safetensors",
    )
    [(_, sae)] = load_sae(_change(place, cfg))
    exact = {k: t.double() for k, t in load_file(place / "sae_weights.safetensors").items()}
    theirs = _their_reconstruction(exact, x.double(), cfg)
    torch.testing.assert_close(sae.reconstruct(x).double(), theirs, rtol=1e-3, atol=1e-3)


def test_a_layer_norm_is_refused_where_it_cannot_be_kept(sae_of_kind: Make, tmp_path: Path) -> None:
    save_sae(sae_of_kind("gated"), tmp_path / "here" / "model.layers.3")
    [place] = convert(tmp_path / "here", tmp_path / "there", "saelens")
    with pytest.raises(UsageError, match=r"layer norm of each token .* of gated") as error:
        load_sae(_change(place, {"normalize_activations": "layer_norm"}))
    assert "\n" not in str(error.value)


def test_a_batch_topk_whose_thresholds_were_tuned_apart_is_a_jump_relu(
    sae_of_kind: Make, tmp_path: Path
) -> None:
    save_sae(sae_of_kind("batch_topk"), tmp_path / "here" / "model.layers.3")
    [place] = convert(tmp_path / "here", tmp_path / "there", "saelens")
    tensors = load_file(place / "sae_weights.safetensors")
    tensors["threshold"][5] += 1
    save_file(tensors, place / "sae_weights.safetensors")
    [(_, sae)] = load_sae(place)
    assert sae.architecture == "jump_relu"
    assert torch.equal(sae.named_tensors["threshold"], tensors["threshold"])


def test_an_older_log_threshold_is_a_threshold(
    sae_of_kind: Make, x: Tensor, tmp_path: Path
) -> None:
    made = sae_of_kind("jump_relu")
    save_sae(made, tmp_path / "here" / "model.layers.3")
    [place] = convert(tmp_path / "here", tmp_path / "there", "saelens")
    tensors = load_file(place / "sae_weights.safetensors")
    tensors["log_threshold"] = tensors.pop("threshold").log()
    save_file(tensors, place / "sae_weights.safetensors")
    torch.testing.assert_close(load_sae(place)[0][1].reconstruct(x), made.reconstruct(x))


def test_a_threshold_below_0_is_one_of_0(sae_of_kind: Make, x: Tensor, tmp_path: Path) -> None:
    """As dictionary_learning's is before training: whatever is positive fires."""
    place = save_sae(sae_of_kind("batch_topk"), tmp_path / "model.layers.3")
    tensors = load_file(place / "sae.safetensors") | {"threshold": torch.tensor(-1.0)}
    save_file(tensors, place / "sae.safetensors")
    [(_, sae)] = load_sae(tmp_path)
    pre = sae.pre_activations(x)
    assert torch.equal((sae.encode(x).values > 0).sum(1), (pre > 0).sum(1))


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"sizes": None}, "dictionaries of a matryoshka are None"),
        ({"sizes": "4, 24"}, "not whole numbers"),
        ({"sizes": [4, 9]}, "do not grow"),
        ({"activation": "relu"}, "activation 'relu' is unknown"),
        ({"activation": ["topk"]}, "is unknown"),
        ({"k": None}, "names no k"),
        ({"activation": "jump_relu"}, r"threshold is \(\), expected \(24,\)"),
    ],
)
def test_a_native_cfg_that_does_not_fit_is_one_line(
    cfg: dict[str, Any], said: str, sae_of_kind: Make, tmp_path: Path
) -> None:
    place = save_sae(sae_of_kind("matryoshka"), tmp_path / "model.layers.3")
    with pytest.raises(UsageError, match=said) as error:
        load_sae(_change(place, cfg))
    assert "\n" not in str(error.value)
