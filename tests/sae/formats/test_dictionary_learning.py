"""dictionary_learning: torch pickles that run nothing, a decoder the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import convert, load_sae, save_sae
from lmmsae_eval.sae.topk import TopK
from torch import Tensor


class Evil:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(
    dictionary_learning: Any, tmp_path: Path
) -> None:
    folder = dictionary_learning.write(tmp_path, dictionary_learning.tensors)
    torch.save({"encoder.weight": Evil(tmp_path / "owned")}, folder / "trainer_0" / "ae.pt")
    for ref in (folder, folder / "trainer_0" / "ae.pt"):
        with pytest.raises(UsageError, match="can't read SAE weights") as error:
            load_sae(ref)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_on_the_way_is_given_by_its_file(
    dictionary_learning: Any, x: Tensor, tmp_path: Path
) -> None:
    folder = dictionary_learning.write(tmp_path, dictionary_learning.tensors)
    [(_, final)] = load_sae(folder)
    checkpoints = folder / "trainer_0" / "checkpoints"
    checkpoints.mkdir()
    early = (folder / "trainer_0" / "ae.pt").rename(checkpoints / "ae_500.pt")
    [(name, sae)] = load_sae(early)
    assert name == "model.layers.3"
    assert torch.equal(sae.reconstruct(x), final.reconstruct(x))


def test_the_k_that_encodes_is_the_one_beside_the_weights(
    dictionary_learning: Any, tmp_path: Path
) -> None:
    annealed = dictionary_learning.tensors | {"k": torch.tensor(7, dtype=torch.int)}
    [(_, sae)] = load_sae(dictionary_learning.write(tmp_path, annealed))
    assert sae.k == 7


@pytest.mark.parametrize(
    ("trainer", "hookpoint"),
    [
        ({"submodule_name": None, "layer": 12}, "model.layers.12"),
        ({"submodule_name": "model.layers.5"}, "model.layers.5"),
        ({"submodule_name": "mlp_out_layer_3"}, "mlp_out_layer_3"),
        ({"submodule_name": None, "layer": None}, "trainer_0"),
    ],
)
def test_the_hookpoint_comes_from_the_config(
    trainer: dict[str, Any], hookpoint: str, dictionary_learning: Any, tmp_path: Path
) -> None:
    folder = dictionary_learning.write(tmp_path, dictionary_learning.tensors)
    _change(folder, trainer)
    assert load_sae(folder)[0][0] == hookpoint


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ({"dict_class": "AutoEncoderOfMine"}, "AutoEncoderOfMine"),
        ({"activation_dim": 9}, "expected"),
        ({"dict_size": "many"}, "not a whole number"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    trainer: dict[str, Any], said: str, dictionary_learning: Any, tmp_path: Path
) -> None:
    folder = dictionary_learning.write(tmp_path, dictionary_learning.tensors)
    _change(folder, trainer)
    with pytest.raises(UsageError, match=said):
        load_sae(folder)
    (folder / "trainer_0" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no 'trainer'"):
        load_sae(folder)


def _change(folder: Path, trainer: dict[str, Any]) -> None:
    path = folder / "trainer_0" / "config.json"
    config = json.loads(path.read_text())
    config["trainer"] |= trainer
    path.write_text(json.dumps(config))


def test_the_files_are_exactly_those_of_dictionary_learning(sae: TopK, tmp_path: Path) -> None:
    for layer in (24, 7):
        save_sae(sae, tmp_path / "ours" / f"model.layers.{layer}")
    places = convert(tmp_path / "ours", tmp_path / "theirs", "dictionary_learning")
    assert [place.name for place in places] == ["trainer_0", "trainer_1"]
    assert sorted(file.name for file in places[0].iterdir()) == ["ae.pt", "config.json"]
    tensors = torch.load(places[0] / "ae.pt", weights_only=True)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    assert shapes == {
        "k": (),
        "threshold": (),
        "encoder.weight": (24, 8),
        "encoder.bias": (24,),
        "decoder.weight": (8, 24),
        "b_dec": (8,),
    }
    assert tensors["k"].dtype == torch.int
    trainer = json.loads((places[1] / "config.json").read_text())["trainer"]
    assert (trainer["dict_class"], trainer["layer"], trainer["k"]) == ("AutoEncoderTopK", 24, 3)
