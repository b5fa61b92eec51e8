"""Questions to answers in one call: the chat template applied, batches as large as memory allows.

`hooks` act on every batch, so they must not hang on the number of rows: latents of shape `(m,)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .batching import Batches
from .lmm import LMM, Prompt
from .progress import Progress
from .residual import Hooks, yes_no

BATCH = 32


def margins(
    lmm: LMM,
    prompts: Iterable[Prompt],
    hooks: Hooks | None = None,
    *,
    words: tuple[str, str] = ("yes", "no"),
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Tensor:
    """`(prompts,)` float32 on the CPU: logit(words[0]) - logit(words[1]) of the answer's first
    token. Raises `ValueError` for a word that isn't one entry of the vocabulary.
    """

    def ask(group: Sequence[Prompt]) -> Tensor:
        with torch.no_grad():
            return yes_no(lmm, lmm.prepare(group), hooks, words).float().cpu()

    return torch.cat([torch.zeros(0), *Batches(batch_size, progress).over(prompts, ask)])


def answers(
    lmm: LMM,
    prompts: Iterable[Prompt],
    max_new_tokens: int,
    hooks: Hooks | None = None,
    *,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> list[str]:
    """Greedy answers of up to `max_new_tokens` tokens; hooks act on every one of them.

    The checkpoint's generation config says where an answer ends and what is forced, suppressed or
    penalised; sampling and beams are left out, so that an answer is the same each time.
    """

    def ask(group: Sequence[Prompt]) -> list[str]:
        return lmm.generate(lmm.prepare(group), max_new_tokens, hooks)

    parts = Batches(batch_size, progress).over(prompts, ask)
    return [answer for part in parts for answer in part]
