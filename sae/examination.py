"""Whether a model will work, from its config and processor alone: no weights are read."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from .hf import TransformersLMM
from .image_tokens import ImageTokens, image_tokens
from .inputs import Inputs
from .lmm import LMM, NotInModelError, Prompt, TokenKind
from .load import EMBEDDED, hub_id, load_lmm, model_config, readable
from .loading import Loading
from .processors import load_processor

QUESTION = "is there a boat ?"
SIZES = ((640, 480), (480, 640), (1280, 400))
"""Pictures to show the image tokens of: width and height."""
_NAMES = {
    TokenKind.IMAGE: "base",
    TokenKind.TILE: "tile",
    TokenKind.SEPARATOR: "separator",
    TokenKind.QUERY: "without a place",
}
_SHARE_4BIT, _SHARE_8BIT = 0.5625, 1.0
"""Bytes a parameter when loaded so, scales included; embeddings stay as they are."""


def examined(ref: str, **loading: Any) -> dict[str, Any]:
    """What a user must know before loading `ref`. Raises `UsageError` in one line for a model that
    won't work, naming what is missing.
    """
    lmm: Any = _without_weights(ref, **loading)
    if not isinstance(lmm, TransformersLMM):
        return _blocks(lmm)
    return {
        "class": type(lmm.model).__name__,
        **_blocks(lmm),
        "chat template": _template(lmm.inputs),
        "yes and no": _words(lmm),
        "image tokens": {f"{w} x {h}": _layout(lmm.inputs, (w, h)) for w, h in SIZES},
        "memory": _memory(lmm.model, Loading(**loading)),
    }


def asked(ref: str, **loading: Any) -> dict[str, Any]:
    """Load the weights and ask about a grey picture."""
    lmm = load_lmm(ref, **loading)
    answer = lmm.generate(lmm.prepare([Prompt(QUESTION, _picture((64, 64)))]), max_new_tokens=4)
    return {"identity": lmm.identity, "answer": answer[0]}


def _without_weights(ref: str, **loading: Any) -> LMM:
    import torch
    from transformers import AutoModelForImageTextToText

    if ref in EMBEDDED:
        return load_lmm(ref, **loading)  # of a few megabytes
    folder = Path(ref).expanduser()
    source, revision = (str(folder), None) if folder.is_dir() else hub_id(ref)
    options = Loading(**loading)
    options.settings()  # says which package is missing
    config = model_config(source, revision)
    with readable(source):
        processor = load_processor(source, revision)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    name = folder.name if folder.is_dir() else ref
    return TransformersLMM(model, processor, name, "", options.image_tokens)


def _blocks(lmm: LMM) -> dict[str, Any]:
    first, last = lmm.hookpoint(1), lmm.hookpoint(lmm.n_layers)
    return {
        "name": lmm.name,
        "layers": lmm.n_layers,
        "d_model": lmm.d_model,
        "first block": f"{first} at {first.module}",
        "last block": f"{last} at {last.module}",
    }


def _template(inputs: Inputs) -> str:
    own = getattr(inputs.processor, "chat_template", None) is not None
    text = inputs.chat(Prompt(QUESTION, _picture((64, 64))))
    return ("" if own else "none, as published: ") + " ".join(text.split())


def _words(lmm: TransformersLMM) -> str:
    try:
        return f"one vocabulary entry each: {lmm.token_id('yes')}, {lmm.token_id('no')}"
    except NotInModelError as error:
        return f"halluc won't work: {error}"


def _layout(inputs: Inputs, size: tuple[int, int]) -> str:
    [tokens] = image_tokens(inputs.prepare([Prompt(QUESTION, _picture(size))]))
    counts = Counter(TokenKind(int(kind)) for kind in tokens.kinds)
    parts = [f"{n} {_NAMES[kind]}{_extent(tokens, kind)}" for kind, n in sorted(counts.items())]
    return f"{len(tokens)}: " + ", ".join(parts)


def _extent(tokens: ImageTokens, kind: TokenKind) -> str:
    box = tokens.boxes[tokens.kinds == kind][0].tolist()
    width, height = box[2] - box[0], box[3] - box[1]
    return f" (each {width:.1f} x {height:.1f} px)" if width * height else ""


def _memory(model: Any, options: Loading) -> dict[str, Any]:
    """Gigabytes of weights at each precision, beside what there is on the device."""
    total = sum(parameter.numel() for parameter in model.parameters())
    kept = sum(
        part.weight.numel()
        for part in (model.get_input_embeddings(), model.get_output_embeddings())
        if part is not None
    )
    needed = {
        "float32": 4 * total,
        "bfloat16": 2 * total,
        "8bit": 2 * kept + _SHARE_8BIT * (total - kept),
        "4bit": 2 * kept + _SHARE_4BIT * (total - kept),
    }
    there = _there(options)
    chosen = options.load_in or options.dtype_name
    wanted = needed.get(chosen, needed["bfloat16"])  # float16 takes as much
    verdict = "unknown" if there is None else "yes" if wanted < there else "no"
    return {
        "parameters": total,
        **{f"{name} GB": round(size / 1e9, 2) for name, size in needed.items()},
        "there GB": None if there is None else round(there / 1e9, 1),
        "fits": f"{verdict}, in {chosen}; activations come on top",
    }


def _there(options: Loading) -> int | None:
    """Free memory of the GPUs, or all of the machine's; None where the system doesn't say."""
    import torch

    if torch.cuda.is_available() and (options.spread or options.one_device.type == "cuda"):
        devices = range(torch.cuda.device_count()) if options.spread else [options.one_device]
        return sum(int(torch.cuda.mem_get_info(device)[0]) for device in devices)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not on every system
        return None


def _picture(size: tuple[int, int]) -> Any:
    from PIL import Image

    return Image.new("RGB", size, (128, 128, 128))
