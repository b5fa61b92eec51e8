"""One training, from the first step or a checkpoint to the SAEs on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .checkpoint import Checkpoints, Saved, part, under
from .distributed import ALONE, Distribute, Ranks, work_of
from .learner import Learner, centre, eight_bit_adam, new_learner
from .lmm import LMM, Hookpoint, Prompt
from .logs import LogName, open_log
from .progress import Pace, Progress
from .recipe import Recipe, learning_rate, settings
from .record import Record
from .shard import latents_of_each, whole
from .source import TokenBatch
from .supply import Supply

LOG_EVERY = 50


@dataclass(frozen=True)
class Setting:
    """What does not decide the weights of one process, beside where they go."""

    out: Path
    data: str = ""
    """Names the prompts: an unfinished training or a cache is of these, and of no others."""
    cache: Path | None = None
    log: LogName | None = None
    checkpoint_every: int | None = None
    distribute: Distribute = "data"
    ranks: Ranks = ALONE


class Training:
    """One run of `train`."""

    def __init__(
        self,
        lmm: LMM,
        hookpoints: Sequence[Hookpoint],
        recipe: Recipe,
        setting: Setting,
        progress: Progress,
    ) -> None:
        self.lmm = lmm
        self.recipe = recipe
        self.progress = progress
        self._setting = setting
        self._work = work_of(hookpoints, setting.ranks, setting.distribute)
        if (world := self._work.shards.world) > 1:  # what can't be shared out is told at once
            latents_of_each(recipe.architecture, recipe.n_latents, recipe.k, world)
        self._device = getattr(lmm, "device", "cpu")
        config = self._config()
        self._record = Record(setting.out, config, self._work)
        self._checkpoints = Checkpoints(
            setting.out / "checkpoint", config, setting.ranks, setting.checkpoint_every
        )

    def run(self, prompts: Iterable[Prompt]) -> list[Path]:
        """The folder of each SAE."""
        if self.recipe.adam == "8bit":
            eight_bit_adam([torch.zeros(1)], self.recipe.lr)  # missing, it is missed at once
        # What can be gone through once only can't be taken up again.
        keeps = iter(prompts) is not prompts
        saved = self._checkpoints.latest() if keeps else None
        self._open(saved)
        for hookpoint, learner in self._learn(prompts, saved, keeps).items():
            sae = whole(learner.trainer.sae)
            if self._work.writes:
                self._record.write(hookpoint, sae)
        self._checkpoints.clear()
        return [self._setting.out / hookpoint.name for hookpoint in self._work.hookpoints]

    def _open(self, saved: Saved | None) -> None:
        if not self._work.first:
            return
        start = 0 if saved is None else saved.step
        if start:
            done = f"{start} of {self.recipe.steps} steps"
            self.progress.say(f"{self._setting.out}: going on after {done}")
        self._record.open(start)

    def _learn(
        self, prompts: Iterable[Prompt], saved: Saved | None, keeps: bool
    ) -> dict[Hookpoint, Learner]:
        recipe = self.recipe
        supply = self._supply(prompts, saved)
        learners = self._restored(saved) if saved else {}
        start = saved.step if saved else 0
        n = len(self._work.hookpoints)
        label = f"training {n} SAE{'s' * (n > 1)}"
        log = open_log(
            self._setting.log if self._work.first else None, self._setting.out, self._config()
        )
        with self.progress.step(label, recipe.steps - start) as bar, closing(log):
            pace = Pace(bar, recipe.batch_tokens)
            for number, batch in supply.batches(start):
                learners = learners or self._start(batch)
                lines = self._step(number, batch, learners)
                pace.advance(lines)
                for line in lines:
                    log.add(line)
                if keeps and number + 1 < recipe.steps and self._checkpoints.due(number + 1):
                    self._save(number + 1, supply, learners)
        if not learners and self._work.mine:
            raise UsageError("no prompts to train on; the image folder or data set is empty")
        return learners

    def _supply(self, prompts: Iterable[Prompt], saved: Saved | None) -> Supply:
        state = None if saved is None else part("feed", saved.own)
        cache, data = self._setting.cache, self._setting.data
        return Supply(self.lmm, prompts, self.recipe, self._work, cache, data, self.progress, state)

    def _step(
        self, number: int, batch: TokenBatch, learners: Mapping[Hookpoint, Learner]
    ) -> list[dict[str, Any]]:
        """One step of every SAE; what there is to log."""
        lr = learning_rate(self.recipe, number)
        lines = []
        logged = number % LOG_EVERY == 0 or number == self.recipe.steps - 1
        for hookpoint, learner in learners.items():
            x = batch.activations[hookpoint].to(self._device)
            done = learner.step(x, batch.kinds, lr)
            if logged:
                line = {"step": number, "hookpoint": hookpoint.name, "lr": lr}
                lines.append(line | learner.measure(x, batch.kinds, done))
        return self._record.add(lines) if logged else []

    def _start(self, batch: TokenBatch) -> dict[Hookpoint, Learner]:
        how, together = self.recipe.centre, self._work.together
        return {
            hookpoint: self._new(centre(x.to(self._device), how, together))
            for hookpoint, x in batch.activations.items()
        }

    def _new(self, b_dec: Tensor) -> Learner:
        return new_learner(self.recipe, b_dec, self._work.together, self._work.shards)

    def _save(self, step: int, supply: Supply, learners: Mapping[Hookpoint, Learner]) -> None:
        learned: dict[str, Any] = {}
        for hookpoint, learner in learners.items():
            learned |= under(hookpoint.name, learner.state())
        own = under("feed", supply.state())
        if self._work.all_tokens:
            self._checkpoints.write(step, own | learned, {})
        else:
            self._checkpoints.write(step, own, learned)

    def _restored(self, saved: Saved) -> dict[Hookpoint, Learner]:
        learners = {}
        for hookpoint in self._work.mine:
            state = part(hookpoint.name, saved.own if self._work.all_tokens else saved.shared)
            b_dec = torch.zeros(self.lmm.d_model, device=self._device)
            learners[hookpoint] = self._new(b_dec)
            learners[hookpoint].restore(state)
        return learners

    def _config(self) -> dict[str, Any]:
        return {
            "model": self.lmm.name,
            "model_identity": self.lmm.identity,
            "data": self._setting.data,
            "hookpoints": [hookpoint.name for hookpoint in self._work.hookpoints],
            **settings(self.recipe),
            "processes": self._setting.ranks.world,
            "distribute": self._setting.distribute,
        }
