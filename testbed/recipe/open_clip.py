"""The CLIP a second time, as `open_clip` reads it: `local-dir:FOLDER`.

The layout is the original CLIP's: one matrix for query, key and value, and projections that are
multiplied from the right. The text is read at its highest id, which is EOS here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPModel

TOWER = "local-dir"
"""Any name: `open_clip` takes the tokenizer from the same folder."""

_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_VISION = {
    "embeddings.class_embedding": "visual.class_embedding",
    "embeddings.patch_embedding.weight": "visual.conv1.weight",
    "embeddings.position_embedding.weight": "visual.positional_embedding",
    "pre_layrnorm.weight": "visual.ln_pre.weight",
    "pre_layrnorm.bias": "visual.ln_pre.bias",
    "post_layernorm.weight": "visual.ln_post.weight",
    "post_layernorm.bias": "visual.ln_post.bias",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def save_for_open_clip(model: CLIPModel, folder: Path) -> None:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` into an existing folder."""
    save_file(open_clip_state(model), folder / "open_clip_model.safetensors")
    text = json.dumps(open_clip_config(model), indent=1)
    (folder / "open_clip_config.json").write_text(text + "\n")


def open_clip_state(model: CLIPModel) -> dict[str, Tensor]:
    """The model's tensors by open_clip's names and layouts."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    rows = [
        *_tower(state, "vision_model.", _VISION, "visual."),
        *_tower(state, "text_model.", _TEXT),
        ("visual.proj", state["visual_projection.weight"].T),
        ("text_projection", state["text_projection.weight"].T),
        ("logit_scale", state["logit_scale"]),
    ]
    return {name: tensor.contiguous() for name, tensor in rows}


def _tower(
    state: dict[str, Tensor], tower: str, names: dict[str, str], prefix: str = ""
) -> Iterator[tuple[str, Tensor]]:
    for theirs, name in names.items():
        yield name, state[tower + theirs]
    layer = 0
    while f"{tower}encoder.layers.{layer}.layer_norm1.weight" in state:
        block = f"{prefix}transformer.resblocks.{layer}."
        yield from _block(state, f"{tower}encoder.layers.{layer}.", block)
        layer += 1


def _block(state: dict[str, Tensor], theirs: str, block: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        for their_name, name in _LAYER.items():
            yield f"{block}{name}.{kind}", state[f"{theirs}{their_name}.{kind}"]
        parts = [state[f"{theirs}self_attn.{part}_proj.{kind}"] for part in "qkv"]
        yield f"{block}attn.in_proj_{kind}", torch.cat(parts)


def open_clip_config(model: CLIPModel) -> dict[str, Any]:
    vision, text = model.config.vision_config, model.config.text_config
    return {
        "model_cfg": {
            "embed_dim": model.config.projection_dim,
            "quick_gelu": vision.hidden_act == "quick_gelu",
            "vision_cfg": {
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "width": vision.hidden_size,
                "layers": vision.num_hidden_layers,
                "head_width": vision.hidden_size // vision.num_attention_heads,
                "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            },
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
                "mlp_ratio": text.intermediate_size / text.hidden_size,
                "hf_tokenizer_name": TOWER,
            },
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
