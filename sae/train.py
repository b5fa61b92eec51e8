"""Training SAEs on an LMM: all layers from one forward."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import UsageError
from .cache import ActivationCache
from .checkpoint import Checkpoints, Saved, part, under
from .distributed import ALONE, Distribute, Ranks, exchanged, owned
from .files import told_in_one_line, write_atomically
from .formats import save_sae
from .learner import Learner, centre, eight_bit_adam, new_learner
from .lmm import LMM, Hookpoint, Prompt
from .logs import LogName, open_log
from .progress import Progress, ProgressStep, Quiet
from .recipe import Adam, Architecture, Recipe, learning_rate, recipe_for, settings
from .sae import SAE
from .shard import whole
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
from .tokens import TokenSet

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


def train(
    lmm: LMM,
    prompts: Iterable[Prompt],
    hookpoints: Sequence[Hookpoint],
    *,
    out: Path,
    preset: str = "small",
    architecture: Architecture | None = None,
    n_latents: int | None = None,
    k: int | None = None,
    prefixes: Sequence[int] | None = None,
    penalty: float | None = None,
    tokens: TokenSet | None = None,
    steps: int | None = None,
    n_tokens: int | None = None,
    batch_tokens: int | None = None,
    accumulate: int | None = None,
    lr: float | Literal["published"] | None = None,
    adam: Adam | None = None,
    seed: int | None = None,
    data: str = "",
    cache: Path | None = None,
    log: LogName | None = None,
    checkpoint_every: int | None = None,
    distribute: Distribute = "data",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> list[Path]:
    """Train one SAE per hookpoint and return their folders under `out`.

    `out` gets `<hookpoint>/{cfg.json,sae.safetensors,config.json}`, `config.json` (the latest
    recipe) and `metrics.jsonl` (FVU, L0 and dead share per hookpoint, overall and per token kind);
    what other hookpoints left there is kept. Give `steps` or `n_tokens`; what is None is the
    `preset`'s. `prompts` are gone through again and again, or once if they are an iterator.

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
    recipe = recipe_for(
        preset,
        steps=steps,
        n_tokens=n_tokens,
        lr=lr,
        architecture=architecture,
        n_latents=n_latents,
        k=k,
        prefixes=None if prefixes is None else tuple(prefixes),
        penalty=penalty,
        tokens=tokens,
        batch_tokens=batch_tokens,
        accumulate=accumulate,
        adam=adam,
        seed=seed,
    )
    setting = Setting(out, data, cache, log, checkpoint_every, distribute, ranks)
    return Training(lmm, hookpoints, recipe, setting, progress or Quiet()).run(prompts)


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
        self.out = setting.out
        self.progress = progress
        self._setting = setting
        self._hookpoints = list(dict.fromkeys(hookpoints))
        self._ranks = setting.ranks
        how = setting.distribute if self._ranks.world > 1 else "data"
        self._by_layer = how == "layers"
        self._mine = owned(self._hookpoints, self._ranks) if self._by_layer else self._hookpoints
        self._shards = self._ranks if how == "latents" else ALONE
        """Who has other latents of the same SAEs."""
        self._all_tokens = how != "data"
        """Every process sees every token."""
        self._device = getattr(lmm, "device", "cpu")
        self._together = ALONE if self._all_tokens else self._ranks
        """Who learns the same latents from other tokens."""
        self._metrics = self.out / "metrics.jsonl"
        self._checkpoints = Checkpoints(
            self.out / "checkpoint", self._config(), self._ranks, setting.checkpoint_every
        )

    def run(self, prompts: Iterable[Prompt]) -> list[Path]:
        if self.recipe.adam == "8bit":
            eight_bit_adam([torch.zeros(1)], self.recipe.lr)  # missing, it is missed at once
        # What can be gone through once only can't be taken up again.
        keeps = iter(prompts) is not prompts
        saved = self._checkpoints.latest() if keeps else None
        if self._ranks.rank == 0:
            self._open(saved)
        for hookpoint, learner in self._learn(prompts, saved, keeps).items():
            sae = whole(learner.trainer.sae)
            if self._ranks.rank == 0 or self._by_layer:
                self._write(hookpoint, sae)
        self._checkpoints.clear()
        return [self.out / hookpoint.name for hookpoint in self._hookpoints]

    def _open(self, saved: Saved | None) -> None:
        """Metrics after the checkpoint are forgotten: they come again."""
        start = 0 if saved is None else saved.step
        if start:
            done = f"{start} of {self.recipe.steps} steps"
            self.progress.say(f"{self.out}: going on after {done}")
        with told_in_one_line(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self.out / "config.json", json.dumps(self._config(), indent=1) + "\n")
            lines = self._metrics.read_text().splitlines() if self._metrics.is_file() else []
            kept = [line + "\n" for line in lines if self._stays(line, start)]
            write_atomically(self._metrics, "".join(kept))

    def _stays(self, line: str, start: int) -> bool:
        """Whether a line of metrics is another layer's, or of a step that is not made again."""
        try:
            said = json.loads(line)
            mine = said["hookpoint"] in {hookpoint.name for hookpoint in self._hookpoints}
            return not mine or said["step"] < start
        except (ValueError, KeyError, TypeError):  # torn by a kill
            return False

    def _write(self, hookpoint: Hookpoint, sae: SAE) -> None:
        """An SAE with its own config: another layer's training replaces the one above."""
        folder = self.out / hookpoint.name
        save_sae(sae, folder, {"hookpoint": hookpoint.name})
        with told_in_one_line(folder):
            config = self._config() | {"hookpoints": [hookpoint.name]}
            write_atomically(folder / "config.json", json.dumps(config, indent=1) + "\n")

    def _learn(
        self, prompts: Iterable[Prompt], saved: Saved | None, keeps: bool
    ) -> dict[Hookpoint, Learner]:
        recipe = self.recipe
        feed = self._feed(prompts, saved)
        learners = self._restored(saved) if saved else {}
        start = saved.step if saved else 0
        n = len(self._hookpoints)
        label = f"training {n} SAE{'s' * (n > 1)}"
        show = self._ranks.rank == 0
        log = open_log(self._setting.log if show else None, self.out, self._config())
        with self.progress.step(label, recipe.steps - start) as bar, closing(log):
            pace = Pace(bar, recipe.batch_tokens)
            for number, batch in self._batches(feed, start):
                learners = learners or self._start(batch)
                lines = self._step(number, batch, learners)
                pace.advance(lines)
                for line in lines:
                    log.add(line)
                if keeps and number + 1 < recipe.steps and self._checkpoints.due(number + 1):
                    self._save(number + 1, feed, learners)
        if not learners and self._mine:
            raise UsageError("no prompts to train on; the image folder or data set is empty")
        return learners

    def _feed(self, prompts: Iterable[Prompt], saved: Saved | None) -> Feed:
        recipe = self.recipe
        # Whether a pass is kept must be the same for all who exchange it.
        exchanging = self._all_tokens and self._setting.cache is None
        return Feed(
            self._one_pass(prompts),
            self._part_of(recipe.batch_tokens),
            recipe.seed,
            self._mine,
            None if saved is None else part("feed", saved.own),
            -1 if exchanging else KEEP_BYTES,
        )

    def _batches(self, feed: Feed, start: int) -> Iterator[tuple[int, TokenBatch]]:
        """This rank's part of each batch, maybe none; ends for all ranks at once."""
        none = torch.zeros(0, self.lmm.d_model)
        empty = TokenBatch(dict.fromkeys(self._mine, none), torch.zeros(0, dtype=torch.int8))
        for number in range(start, self.recipe.steps):
            batch = feed.next() or empty
            count = torch.tensor(len(batch), device=self._together.device)
            if not self._together.sum_(count):
                return
            yield number, batch

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
        return self._log(lines) if logged else []

    def _log(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._by_layer:
            lines = [line for found in self._ranks.gather_objects(lines) for line in found]
        if self._ranks.rank != 0:
            return []
        with told_in_one_line(self._metrics), self._metrics.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return lines

    def _one_pass(self, prompts: Iterable[Prompt]) -> OnePass:
        """The chunks of a pass over the prompts, live or from the cache."""
        recipe, lmm, ranks = self.recipe, self.lmm, self._ranks
        share = Share(ranks.rank, ranks.world)

        def live(skip: int) -> Iterable[TokenBatch]:
            return activations(
                lmm, prompts, self._hookpoints, recipe.tokens, skip=skip, share=share
            )

        if self._setting.cache is not None:
            return self._cached(self._setting.cache, live, share)
        if not self._all_tokens:
            return live
        to_all = not self._by_layer

        def shared(skip: int) -> Iterator[TokenBatch]:
            # A round is one chunk of every rank; the last one may be cut short.
            rounds, rest = divmod(skip, ranks.world)
            found = exchanged(live(rounds), self._hookpoints, lmm.d_model, ranks, to_all)
            yield from (chunk for number, chunk in enumerate(found) if number >= rest)

        return shared

    def _cached(self, folder: Path, live: OnePass, share: Share) -> OnePass:
        about = {
            "model_identity": self.lmm.identity,
            "d_model": self.lmm.d_model,
            "data": self._setting.data,
            "tokens": self.recipe.tokens,
            "prompts_per_forward": PROMPTS_PER_FORWARD,
        }
        cache = ActivationCache(folder, about, self._hookpoints)
        if not cache.complete:
            cache.write(live, self._ranks, self.progress)
        # Everyone may read all of it, so nobody sends anything.
        read = WHOLE if self._all_tokens else share
        return lambda skip: cache.read(self._mine, skip, read)

    def _part_of(self, batch_tokens: int) -> int:
        rank, world = self._together.rank, self._together.world
        return max(1, batch_tokens // world + (rank < batch_tokens % world))

    def _start(self, batch: TokenBatch) -> dict[Hookpoint, Learner]:
        recipe = self.recipe
        return {
            hookpoint: self._new(centre(x.to(self._device), recipe.centre, self._together))
            for hookpoint, x in batch.activations.items()
        }

    def _new(self, b_dec: Tensor) -> Learner:
        return new_learner(self.recipe, b_dec, self._together, self._shards)

    def _save(self, step: int, feed: Feed, learners: Mapping[Hookpoint, Learner]) -> None:
        learned: dict[str, Any] = {}
        for hookpoint, learner in learners.items():
            learned |= under(hookpoint.name, learner.state())
        own = under("feed", feed.state())
        if self._all_tokens:
            self._checkpoints.write(step, own | learned, {})
        else:
            self._checkpoints.write(step, own, learned)

    def _restored(self, saved: Saved) -> dict[Hookpoint, Learner]:
        learners = {}
        for hookpoint in self._mine:
            state = part(hookpoint.name, saved.own if self._all_tokens else saved.shared)
            b_dec = torch.zeros(self.lmm.d_model, device=self._device)
            learners[hookpoint] = self._new(b_dec)
            learners[hookpoint].restore(state)
        return learners

    def _config(self) -> dict[str, Any]:
        return {
            "model": self.lmm.name,
            "model_identity": self.lmm.identity,
            "data": self._setting.data,
            "hookpoints": [hookpoint.name for hookpoint in self._hookpoints],
            **settings(self.recipe),
            "processes": self._ranks.world,
            "distribute": self._setting.distribute,
        }


class Pace:
    """The bar, and beside it the latest numbers: means over the layers."""

    def __init__(self, bar: ProgressStep, batch_tokens: int) -> None:
        self._bar = bar
        self._batch_tokens = batch_tokens
        self._began = time.monotonic()
        self._steps = 0

    def advance(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._steps += 1
        self._bar.advance()
        if lines:
            fvu, l0, dead = (fmean(line[key] for line in lines) for key in ("fvu", "l0", "dead"))
            seconds = max(1e-9, time.monotonic() - self._began)
            speed = self._steps * self._batch_tokens / seconds
            self._bar.note(f"FVU {fvu:.3f}, L0 {l0:.1f}, dead {dead:.1%}, {speed:,.0f} tokens/s")
