"""The batches of a training, as one process gets them: from the LMM, a cache or other processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from .cache import ActivationCache
from .distributed import Work, exchanged
from .lmm import LMM, Prompt
from .progress import Progress
from .recipe import Recipe
from .source import (
    KEEP_BYTES,
    PROMPTS_PER_FORWARD,
    WHOLE,
    Feed,
    OnePass,
    Share,
    TokenBatch,
    activations,
)


class Supply:
    """Made again with its `state()`, it goes on there."""

    def __init__(
        self,
        lmm: LMM,
        prompts: Iterable[Prompt],
        recipe: Recipe,
        work: Work,
        cache: Path | None,
        data: str,
        progress: Progress,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`data` names the prompts. Writes the `cache` if it is not complete."""
        self._lmm = lmm
        self._recipe = recipe
        self._work = work
        self._share = Share(work.ranks.rank, work.ranks.world)
        one_pass = self._live(prompts)
        # Whether a pass is kept must be the same for all who exchange it.
        exchanging = work.all_tokens and cache is None
        if cache is not None:
            one_pass = self._cached(cache, data, one_pass, progress)
        elif exchanging:
            one_pass = self._exchanged(one_pass)
        self._feed = Feed(
            one_pass,
            self._batch_tokens,
            recipe.seed,
            work.mine,
            state,
            -1 if exchanging else KEEP_BYTES,
        )

    def batches(self, start: int) -> Iterator[tuple[int, TokenBatch]]:
        """This process's part of each batch from the step `start` on, maybe none; ends for all
        processes at once.
        """
        none = torch.zeros(0, self._lmm.d_model)
        empty = TokenBatch(dict.fromkeys(self._work.mine, none), torch.zeros(0, dtype=torch.int8))
        together = self._work.together
        for number in range(start, self._recipe.steps):
            batch = self._feed.next() or empty
            if not together.sum_(torch.tensor(len(batch), device=together.device)):
                return
            yield number, batch

    def state(self) -> dict[str, Tensor]:
        """The buffer, the order to come and the place in the pass."""
        return self._feed.state()

    @property
    def _batch_tokens(self) -> int:
        """This process's part of a batch."""
        rank, world = self._work.together.rank, self._work.together.world
        share, rest = divmod(self._recipe.batch_tokens, world)
        return max(1, share + (rank < rest))

    def _live(self, prompts: Iterable[Prompt]) -> OnePass:
        def own(skip: int) -> Iterable[TokenBatch]:
            return activations(
                *(self._lmm, prompts, self._work.hookpoints, self._recipe.tokens),
                skip=skip,
                share=self._share,
            )

        return own

    def _exchanged(self, own: OnePass) -> OnePass:
        """The chunks of all processes, whoever makes them."""
        work = self._work

        def shared(skip: int) -> Iterator[TokenBatch]:
            # A round is one chunk of every rank; the last one may be cut short.
            rounds, rest = divmod(skip, work.ranks.world)
            found = exchanged(
                *(own(rounds), work.hookpoints, self._lmm.d_model, work.ranks),
                to_all=work.how == "latents",
            )
            yield from (chunk for number, chunk in enumerate(found) if number >= rest)

        return shared

    def _cached(self, folder: Path, data: str, live: OnePass, progress: Progress) -> OnePass:
        about = {
            "model_identity": self._lmm.identity,
            "d_model": self._lmm.d_model,
            "data": data,
            "tokens": self._recipe.tokens,
            "prompts_per_forward": PROMPTS_PER_FORWARD,
        }
        cache = ActivationCache(folder, about, self._work.hookpoints)
        if not cache.complete:
            cache.write(live, self._work.ranks, progress)
        # Everyone may read all of it, so nobody sends anything.
        read = WHOLE if self._work.all_tokens else self._share
        return lambda skip: cache.read(self._work.mine, skip, read)
