"""Where the decoder blocks of a transformers model live."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import UsageError


def decoder_blocks(model: Any) -> dict[str, nn.Module]:
    """The language model's blocks by their path in `model`, in order.

    They are the one `ModuleList` as long as the text config is deep that lies nearest around the
    input embeddings; a vision tower of equal depth is further away. Raises `UsageError` when there
    is none.
    """
    depth = int(model.config.get_text_config(decoder=True).num_hidden_layers)
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
