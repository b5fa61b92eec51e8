"""Where the decoder blocks of a transformers model live, and what enters them."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from ..errors import UsageError


def decoder_blocks(model: Any) -> dict[str, nn.Module]:
    """The language model's blocks by their path in `model`, in order.

    They are the one `ModuleList` as long as the text config is deep that lies nearest around the
    input embeddings; a vision tower of equal depth is further away. Raises `UsageError` when there
    is none, and for a language model with an encoder of its own.
    """
    text = model.config.get_text_config(decoder=True)
    if getattr(text, "is_encoder_decoder", False):
        raise UsageError(
            f"{type(model).__name__} has an encoder-decoder language model ({text.model_type}): "
            "there is no one residual stream from image to answer; take a decoder-only checkpoint"
        )
    depth = int(text.num_hidden_layers)
    names = {id(module): name for name, module in model.named_modules()}
    path = names[id(model.get_input_embeddings())]
    while path:
        path = path.rpartition(".")[0]
        around = model.get_submodule(path)
        for name, module in around.named_modules(prefix=path):
            if isinstance(module, nn.ModuleList) and len(module) == depth:
                return {f"{name}.{i}": block for i, block in enumerate(module)}
    raise UsageError(
        f"no list of {depth} decoder blocks found in {type(model).__name__}; "
        "this family is not supported yet"
    )


def pixels_enter_once(model: Any) -> bool:
    """Whether images reach the blocks through the input embeddings alone, so that a forward that
    goes on from a known residual stream can do without them.

    Not so where later blocks read image features (Qwen3-VL's deepstack, cross-attention), nor where
    `forward` insists on pixels.
    """
    config = model.config
    vision = getattr(config, "vision_config", None)
    later = (
        getattr(vision, "deepstack_visual_indexes", None),
        getattr(config.get_text_config(decoder=True), "cross_attention_layers", None),
    )
    pixels = inspect.signature(model.forward).parameters.get("pixel_values")
    return not any(later) and pixels is not None and pixels.default is None
