"""Training SAEs on an LMM: all layers from one forward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

from ..errors import UsageError
from .distributed import ALONE, Distribute, Ranks
from .lmm import LMM, Hookpoint, Prompt
from .logs import LogName
from .progress import Progress, Quiet
from .recipe import Choices, recipe_for
from .training import Setting, Training


def train(
    lmm: LMM,
    prompts: Iterable[Prompt],
    hookpoints: Sequence[Hookpoint],
    *,
    out: Path,
    preset: str = "small",
    data: str = "",
    cache: Path | None = None,
    log: LogName | None = None,
    checkpoint_every: int | None = None,
    distribute: Distribute = "data",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    **chosen: Unpack[Choices],
) -> list[Path]:
    """Train one SAE per hookpoint and return their folders under `out`.

    `out` gets `<hookpoint>/{cfg.json,sae.safetensors,config.json}`, `config.json` (the latest
    recipe) and `metrics.jsonl` (FVU, L0 and dead share per hookpoint, overall and per token kind);
    what other hookpoints left there is kept. What is not `chosen` is the `preset`'s. `prompts` are
    gone through again and again, or once if they are an iterator.

    Killed at any time, the same call goes on from `out/checkpoint`, written every
    `checkpoint_every` steps (by the clock when None) unless `prompts` are an iterator: on a CPU to
    the very same weights. `data` is to name the prompts, so that no other training is taken up.
    With `cache`, activations are written there once and read ever after. `ranks` are this process
    among others that train together.

    Raises `UsageError` for no prompts, no hookpoints, k beyond n_latents, activations that are not
    finite, another training's checkpoint or cache, and an `out` that can't be written.
    """
    if not hookpoints:
        raise UsageError("no hookpoints to train at; name at least one layer")
    recipe = recipe_for(preset, **chosen)
    setting = Setting(out, data, cache, log, checkpoint_every, distribute, ranks)
    return Training(lmm, hookpoints, recipe, setting, progress or Quiet()).run(prompts)
