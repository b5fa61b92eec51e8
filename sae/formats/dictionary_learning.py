"""dictionary_learning: `trainer_<i>/{ae.pt,config.json}`; a checkpoint on the way is
`trainer_<i>/checkpoints/ae_<step>.pt`. Each class of dictionary has its own tensor names.

`AutoEncoderTopK` encodes by top-k; the `threshold` that it carries along is not used by it, nor
here. `JumpReluAutoEncoder` does not subtract b_dec before encoding: that is folded into its biases.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import UsageError
from ..files import told_in_one_line, write_atomically
from ..sae import SAE
from .family import Family, Stored, places_with, refuse_others
from .folds import input_bias, no_input_bias
from .kinds import made, own_of, sizes_of
from .names import layer_of, published
from .tensors import fitted, read_json, read_tensors, whole_number

_CFG, _WEIGHTS = "config.json", "ae.pt"


class _Kind(NamedTuple):
    """A class of theirs."""

    dict_class: str
    trainer_class: str
    names: Mapping[str, tuple[str, str]]
    """Their tensors: our field, and axes as theirs are."""
    k: str
    """The key of their config that holds k."""
    buffers: tuple[str, ...] = ()
    """Tensors that are no weights."""
    subtracts: bool = True
    """Whether b_dec is subtracted before encoding."""


_LINEAR = {
    "encoder.weight": ("W_enc", "nd"),
    "encoder.bias": ("b_enc", "n"),
    "decoder.weight": ("W_dec", "dn"),
    "b_dec": ("b_dec", "d"),
}
_PLAIN = {
    "W_enc": ("W_enc", "dn"),
    "b_enc": ("b_enc", "n"),
    "W_dec": ("W_dec", "nd"),
    "b_dec": ("b_dec", "d"),
}
_GATED = {
    "encoder.weight": ("W_enc", "nd"),
    "gate_bias": ("b_enc", "n"),
    "decoder.weight": ("W_dec", "dn"),
    "decoder_bias": ("b_dec", "d"),
    "r_mag": ("r_mag", "n"),
    "mag_bias": ("b_mag", "n"),
}
_ONE = {"threshold": ("threshold", "")}
_KINDS = {
    "topk": _Kind("AutoEncoderTopK", "TopKTrainer", _LINEAR, "k", ("k", "threshold")),
    "batch_topk": _Kind("BatchTopKSAE", "BatchTopKTrainer", _LINEAR | _ONE, "k", ("k",)),
    "matryoshka": _Kind(
        "MatryoshkaBatchTopKSAE",
        "MatryoshkaBatchTopKTrainer",
        _PLAIN | _ONE,
        "k",
        ("k", "group_sizes"),
    ),
    "jump_relu": _Kind(
        "JumpReluAutoEncoder",
        "JumpReluTrainer",
        _PLAIN | {"threshold": ("threshold", "n")},
        "target_l0",
        subtracts=False,
    ),
    # They have no key for the L0 that a Gated aims at; k is ours.
    "gated": _Kind("GatedAutoEncoder", "GatedSAETrainer", _GATED, "k"),
}
_BY_CLASS = {kind.dict_class: name for name, kind in _KINDS.items()}


def _find(root: Path) -> list[Path]:
    return places_with(root, _WEIGHTS)


def _read(place: Path) -> list[Stored]:
    """A folder, or a torch file by its own name, with the `config.json` beside it or above it."""
    weights = place if place.is_file() else place / _WEIGHTS
    path = _config_of(weights)
    trainer = read_json(path).get("trainer")
    if not isinstance(trainer, dict):
        raise UsageError(f"{path} has no 'trainer'; it is not the config of dictionary_learning")
    if (name := str(trainer.get("dict_class"))) not in _BY_CLASS:
        raise UsageError(f"{path}: dict_class {name!r} can't be loaded; {_listed()} can")
    tensors = read_tensors(weights)
    sae = _sae(_BY_CLASS[name], tensors, trainer, weights, path)
    model = str(trainer.get("lm_name") or "")
    return [Stored(_hookpoint(trainer, weights), sae, model)]


def _listed() -> str:
    return ", ".join(_BY_CLASS)


def _sae(
    architecture: str,
    tensors: Mapping[str, Any],
    trainer: Mapping[str, Any],
    weights: Path,
    path: Path,
) -> SAE:
    kind = _KINDS[architecture]
    n, d = whole_number(trainer, "dict_size", path), whole_number(trainer, "activation_dim", path)
    layout = {key: axes for key, (_, axes) in kind.names.items()}
    raw = fitted(tensors, layout, weights, kind.buffers, n=n, d=d)
    named = {
        field: raw[key].T.contiguous() if _turned(field, axes) else raw[key]
        for key, (field, axes) in kind.names.items()
    }
    if not kind.subtracts:
        exact = {field: tensor.double() for field, tensor in named.items()}
        named = {field: tensor.float() for field, tensor in input_bias(exact).items()}
    k = _k(kind, tensors, trainer, weights)
    return made(architecture, named, k, path, _sizes(tensors.get("group_sizes"), weights))


def _turned(field: str, axes: str) -> bool:
    return field in ("W_enc", "W_dec") and axes == "dn"


def _config_of(weights: Path) -> Path:
    beside = weights.parent / _CFG
    return beside if beside.is_file() else weights.parent.parent / _CFG


def _k(kind: _Kind, tensors: Mapping[str, Any], trainer: Mapping[str, Any], weights: Path) -> Any:
    """The buffer's: it is the one that encodes. k is annealed in training, the config's is last."""
    buffer, written = tensors.get("k"), trainer.get(kind.k)
    if "k" not in kind.buffers or buffer is None:
        return round(written) if isinstance(written, float) else written
    if not isinstance(buffer, Tensor) or buffer.numel() != 1:
        raise UsageError(f"{weights}: k is no single number; get the checkpoint again")
    return int(buffer.item())


def _sizes(groups: Any, weights: Path) -> tuple[int, ...] | None:
    """How many latents are in the first groups of a matryoshka, from those of each group."""
    if groups is None:
        return None
    if not isinstance(groups, Tensor) or groups.is_floating_point() or groups.dim() != 1:
        raise UsageError(f"{weights}: group_sizes are no whole numbers; get the checkpoint again")
    return tuple(accumulate(groups.tolist()))


def _hookpoint(trainer: Mapping[str, Any], weights: Path) -> str:
    """The submodule's name; without one, `layer` is the residual stream after that block."""
    if name := trainer.get("submodule_name"):
        return published(str(name))
    layer = trainer.get("layer")
    return weights.parent.name if layer is None else published(f"layers.{layer}")


def _write(saes: Sequence[Stored], folder: Path) -> list[Path]:
    refuse_others(saes, "dictionary_learning", list(_KINDS))
    return [_save(stored, folder / f"trainer_{i}") for i, stored in enumerate(saes)]


def _save(stored: Stored, place: Path) -> Path:
    content = io.BytesIO()
    torch.save(_buffers(stored.sae) | _weights(stored.sae), content)
    with told_in_one_line(place):
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / _WEIGHTS, content.getvalue())
        write_atomically(place / _CFG, json.dumps(_config(stored), indent=4) + "\n")
    return place


def _weights(sae: SAE) -> dict[str, Tensor]:
    kind = _KINDS[sae.architecture]
    fields = ("W_enc", "b_enc", "W_dec", "b_dec")
    named = {field: getattr(sae, field) for field in fields} | own_of(sae)
    named = {field: tensor.detach().cpu().float() for field, tensor in named.items()}
    if not kind.subtracts:
        exact = {field: tensor.double() for field, tensor in named.items()}
        named = {field: tensor.float() for field, tensor in no_input_bias(exact).items()}
    return {
        key: (named[field].T if _turned(field, axes) else named[field]).contiguous()
        for key, (field, axes) in kind.names.items()
    }


def _buffers(sae: SAE) -> dict[str, Tensor]:
    made_up = {
        "k": torch.tensor(sae.k, dtype=torch.int),
        "threshold": torch.tensor(-1.0),
        "group_sizes": torch.tensor(_groups(sae)),
    }
    return {name: made_up[name] for name in _KINDS[sae.architecture].buffers}


def _groups(sae: SAE) -> list[int]:
    return [end - start for start, end in pairwise((0, *(sizes_of(sae) or ())))]


def _config(stored: Stored) -> dict[str, Any]:
    sae = stored.sae
    kind = _KINDS[sae.architecture]
    trainer = {
        "trainer_class": kind.trainer_class,
        "dict_class": kind.dict_class,
        "activation_dim": sae.d_model,
        "dict_size": sae.n_latents,
        kind.k: sae.k,
        **({"group_sizes": _groups(sae)} if sizes_of(sae) else {}),
        "device": "cpu",
        "layer": layer_of(stored.hookpoint),
        "lm_name": stored.model,
        "submodule_name": stored.hookpoint,
    }
    return {"trainer": trainer, "buffer": {}}


FAMILY = Family("dictionary_learning", (_CFG, _WEIGHTS), _find, _read, _write)
