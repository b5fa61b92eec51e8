"""Activations on disk, so that several SAEs are trained from one pass of the LMM.

A folder of `cache.json` and one `00000.safetensors` a forward: `kinds` `(tokens,)` and, named after
each hookpoint, `(tokens, d_model)`. Read back they are the same bits in the same order as live.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UsageError
from .distributed import Ranks
from .files import told_in_one_line, write_atomically, write_tensors
from .lmm import Hookpoint
from .progress import Progress
from .source import OnePass, Share, TokenBatch

_MANIFEST = "cache.json"


class ActivationCache:
    """One pass over the prompts. `about` says what decides the activations."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], hookpoints: Sequence[Hookpoint]
    ) -> None:
        """Raises `UsageError` where `folder` has the activations of something else."""
        self.folder = folder
        self._about = dict(about)
        self._hookpoints = list(hookpoints)
        if (known := self._manifest()) is not None:
            self._compare(known)

    @property
    def complete(self) -> bool:
        known = self._manifest()
        return known is not None and known["shards"] is not None

    def write(self, one_pass: OnePass, ranks: Ranks, progress: Progress) -> None:
        """Run the pass and keep it; one that was interrupted goes on. Every rank writes its share.

        Raises `UsageError` when the disk is full or there are no prompts.
        """
        names = [hookpoint.name for hookpoint in self._hookpoints]
        with told_in_one_line(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if ranks.rank == 0:
                self._note(names, None)
        done = self._written(ranks)
        if done:
            progress.say(f"{self.folder}: going on after {done} forwards")
        with progress.step(f"activations to {self.folder}", None) as step:
            for chunk in one_pass(done):
                with told_in_one_line(self.folder):
                    self._write_shard(done * ranks.world + ranks.rank, chunk)
                done += 1
                step.advance()
        shards = int(ranks.sum_(torch.tensor(done, device=ranks.device)))
        if shards == 0:
            raise UsageError("no prompts to cache; the image folder or data set is empty")
        if ranks.rank == 0:
            with told_in_one_line(self.folder):
                self._note(names, shards)
        ranks.wait()

    def read(
        self, hookpoints: Sequence[Hookpoint], skip: int, share: Share
    ) -> Iterator[TokenBatch]:
        """A share of the pass, without its first `skip` chunks, as `activations` would give it."""
        known = self._manifest()
        assert known is not None
        for number in range(share.rank + skip * share.of, known["shards"], share.of):
            file = self._shard(number)
            try:
                with safe_open(file, framework="pt") as stream:
                    rows = {h: stream.get_tensor(h.name).float() for h in hookpoints}
                    yield TokenBatch(rows, stream.get_tensor("kinds"))
            except (OSError, SafetensorError) as error:
                raise UsageError(
                    f"can't read activations from {file} ({error}); delete {self.folder} to have "
                    "them made again"
                ) from error

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"

    def _written(self, ranks: Ranks) -> int:
        """Whole shards of this rank, up to the first that is missing."""
        done = 0
        while self._shard(done * ranks.world + ranks.rank).is_file():
            done += 1
        return done

    def _write_shard(self, number: int, chunk: TokenBatch) -> None:
        tensors = {h.name: _compact(x).cpu() for h, x in chunk.activations.items()}
        write_tensors(self._shard(number), tensors | {"kinds": chunk.kinds.cpu()}, {})

    def _note(self, hookpoints: Sequence[str], shards: int | None) -> None:
        content = {"about": self._about, "hookpoints": hookpoints, "shards": shards}
        write_atomically(self.folder / _MANIFEST, json.dumps(content, indent=1) + "\n")

    def _manifest(self) -> dict[str, Any] | None:
        file = self.folder / _MANIFEST
        if not file.is_file():
            return None
        try:
            known = json.loads(file.read_text())
            return {key: known[key] for key in ("about", "hookpoints", "shards")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file} is no list of activations; choose another --cache") from error

    def _compare(self, known: Mapping[str, Any]) -> None:
        for key, value in self._about.items():
            if known["about"].get(key) != value:
                raise UsageError(
                    f"the activations in {self.folder} are of {key} {known['about'].get(key)!r}, "
                    f"not {value!r}; choose another --cache"
                )
        missing = {hookpoint.name for hookpoint in self._hookpoints} - set(known["hookpoints"])
        if known["shards"] is None:
            missing |= set(known["hookpoints"]) - {h.name for h in self._hookpoints}
        if missing:
            raise UsageError(
                f"the activations in {self.folder} are of {', '.join(known['hookpoints'])}; train "
                "at these --layers or choose another --cache"
            )


def _compact(x: Tensor) -> Tensor:
    """In bfloat16 where that loses nothing: the LMM ran in it."""
    half = x.bfloat16()
    return half if torch.equal(half.float(), x) else x
