"""A killed training goes on to the same bits; another's or a torn checkpoint is refused."""

from __future__ import annotations

import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.formats import load_sae
from lmmsae_eval.sae.lmm import Prompt
from lmmsae_eval.sae.train import train
from lmmsae_eval.sae.trainer import Trainer
from torch import Tensor

SCRIPT = Path(__file__).parent / "toy_training.py"
toy = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


class Killed(BaseException):
    """Nothing in the package catches it."""


def files_of(out: Path) -> dict[str, bytes]:
    """Everything that a finished training leaves."""
    return {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    toy.toy_train(out)
    return files_of(out)


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """In this process: the step after so many is never made."""
    original = Trainer.step

    def arm(at: int) -> None:
        steps = 0

        def step(self: Trainer[Any], x: Tensor, lr: float) -> Any:
            nonlocal steps
            steps += 1
            if steps > at * toy.LAYERS:
                raise Killed
            return original(self, x, lr)

        monkeypatch.setattr(Trainer, "step", step)

    return arm


@pytest.mark.parametrize("kept_in_memory", [True, False])
@pytest.mark.parametrize("every", [1, 7])
def test_stopped_at_any_step_it_goes_on_to_the_same_files(
    kill_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, bytes],
    tmp_path: Path,
    every: int,
    kept_in_memory: bool,
) -> None:
    if not kept_in_memory:
        monkeypatch.setattr("lmmsae_eval.sae.supply.KEEP_BYTES", 0)
    for at in (0, 3, 1, 11, 30):  # each counted from where the last one stopped
        kill_after(at)
        if at == 30:
            toy.toy_train(tmp_path / "out", checkpoint_every=every)
        else:
            with pytest.raises(Killed):
                toy.toy_train(tmp_path / "out", checkpoint_every=every)
    assert files_of(tmp_path / "out") == uninterrupted


def _run(out: Path, *options: object) -> int:
    command = [sys.executable, str(SCRIPT), str(out), *(str(option) for option in options)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_killed_in_a_step_and_while_writing_it_goes_on_to_the_same_files(
    uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    at = random.Random(5).randrange(9, 20)
    assert _run(out, "--every", 4, "--kill-at", at) == -signal.SIGKILL
    assert list((out / "checkpoint").glob("*.safetensors"))
    assert _run(out, "--every", 4, "--kill-at", 24, "--kill-in", "write") == -signal.SIGKILL
    assert [*(out / "checkpoint").glob(".*.partial")]
    with pytest.raises(UsageError, match="holds no SAE"):
        load_sae(out)
    toy.toy_train(out, checkpoint_every=4)
    assert files_of(out) == uninterrupted


@pytest.mark.parametrize("name", ["batch_topk", "matryoshka", "jump_relu", "gated"])
def test_an_sae_of_any_architecture_goes_on_to_the_same_files(
    kill_after: Callable[[int], None], tmp_path: Path, name: str
) -> None:
    for at in (3, 5):
        kill_after(at)
        with pytest.raises(Killed):
            toy.toy_train(tmp_path / "out", checkpoint_every=2, architecture=name)
    kill_after(30)
    toy.toy_train(tmp_path / "out", checkpoint_every=2, architecture=name)
    kill_after(30)
    toy.toy_train(tmp_path / "whole", architecture=name)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(
    "name",
    ["jump_relu", *(pytest.param(n, marks=pytest.mark.campaign) for n in ("matryoshka", "gated"))],
)
def test_killed_an_sae_with_thresholds_goes_on_to_the_same_files(name: str, tmp_path: Path) -> None:
    out, words = tmp_path / "out", ("--architecture", name, "--every", 3)
    assert _run(out, *words, "--kill-at", random.Random(name).randrange(4, 25)) == -signal.SIGKILL
    assert list((out / "checkpoint").glob("*.safetensors"))
    toy.toy_train(out, checkpoint_every=3, architecture=name)
    toy.toy_train(tmp_path / "whole", architecture=name)
    assert files_of(out) == files_of(tmp_path / "whole")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_killed_five_times_at_random_it_goes_on_to_the_same_files(
    tmp_path: Path, name: str, seed: int
) -> None:
    toy.toy_train(tmp_path / "whole", architecture=name)
    uninterrupted = files_of(tmp_path / "whole")
    rng = random.Random(seed)
    out = tmp_path / "out"
    kills = 0
    while kills < 5:
        options = ("--architecture", name, "--pause", str(rng.choice([0.0, 0.002, 0.01])))
        command = [sys.executable, str(SCRIPT), str(out), "--every", "1", *options]
        with subprocess.Popen(command, stdout=-3, stderr=-3) as training:
            while training.poll() is None and not (out / "config.json").exists():
                time.sleep(0.005)
            time.sleep(rng.random() * 0.6)
            training.kill()
        kills += training.returncode == -signal.SIGKILL
        if training.returncode == 0:  # it was faster
            assert files_of(out) == uninterrupted
            shutil.rmtree(out)
    toy.toy_train(out, checkpoint_every=1, architecture=name)
    assert files_of(out) == uninterrupted


def test_going_on_skips_the_forwards_that_were_made(
    kill_after: Callable[[int], None], tmp_path: Path
) -> None:
    lmm = toy.ToyLMM()
    settings = toy.SMALL | {"steps": 60, "checkpoint_every": 1, "out": tmp_path / "out"}
    kill_after(15)
    with pytest.raises(Killed):
        train(lmm, toy.PROMPTS, [lmm.hookpoint(i) for i in (1, 2, 3)], **settings)
    made = lmm.forwards
    kill_after(1)
    with pytest.raises(Killed):
        train(lmm, toy.PROMPTS, [lmm.hookpoint(i) for i in (1, 2, 3)], **settings)
    assert 0 < made < 5
    assert lmm.forwards == made


class Said:
    """Progress that only listens."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, label: str, total: int | None) -> Any:
        from lmmsae_eval.sae.progress import Quiet

        return Quiet().step(label, total)


@pytest.fixture
def unfinished(kill_after: Callable[[int], None], tmp_path: Path) -> Iterator[Path]:
    kill_after(5)
    with pytest.raises(Killed):
        toy.toy_train(tmp_path / "out", checkpoint_every=2)
    kill_after(1000)
    return tmp_path / "out"


def test_it_says_that_it_goes_on(unfinished: Path) -> None:
    progress = Said()
    toy.toy_train(unfinished, checkpoint_every=2, progress=progress)
    assert progress.said == [f"{unfinished}: going on after 4 of 30 steps"]


@pytest.mark.parametrize(
    ("change", "named"), [({"k": 4}, "k is 3, not 4"), ({"data": "other"}, "data is 'toy'")]
)
def test_another_training_is_not_gone_on_with(
    unfinished: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=named) as error:
        toy.toy_train(unfinished, **change)
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_one_line(unfinished: Path) -> None:
    for file in (unfinished / "checkpoint").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"can't read the checkpoint .* delete") as error:
        toy.toy_train(unfinished)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_more_processes_is_refused(unfinished: Path) -> None:
    for file in (unfinished / "checkpoint").glob("*.rank0-of-1.safetensors"):
        file.rename(file.with_name(file.name.replace("of-1", "of-8")))
    with pytest.raises(UsageError, match="of 8 processes, not 1"):
        toy.toy_train(unfinished)


@pytest.fixture
def little_space() -> Iterator[Callable[[int], None]]:
    """No file may grow beyond so many bytes: what a full disk does to a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_the_checkpoint_before_still_good(
    unfinished: Path,
    little_space: Callable[[int], None],
    uninterrupted: dict[str, bytes],
) -> None:
    little_space(9_000)
    with pytest.raises(IncompleteError, match=r"can't write .*free space") as error:
        toy.toy_train(unfinished, checkpoint_every=2)
    assert "\n" not in str(error.value)
    little_space(resource.RLIM_INFINITY)
    assert not list(unfinished.rglob("*.partial"))
    toy.toy_train(unfinished, checkpoint_every=2)
    assert files_of(unfinished) == uninterrupted


def test_an_iterator_of_prompts_is_not_checkpointed(tmp_path: Path) -> None:
    lmm = toy.ToyLMM()
    prompts = (Prompt(str(seed)) for seed in range(9))
    settings = toy.SMALL | {"steps": 4, "checkpoint_every": 1}
    train(lmm, prompts, [lmm.hookpoint(1)], out=tmp_path, **settings)
    assert not (tmp_path / "checkpoint").exists()


def test_a_diverged_training_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = Trainer.step

    def spoilt(self: Trainer[Any], x: Tensor, lr: float) -> Any:
        self.sae.b_dec.fill_(torch.nan)
        return original(self, x, lr)

    monkeypatch.setattr(Trainer, "step", spoilt)
    with pytest.raises(UsageError, match="diverged"):
        toy.toy_train(tmp_path)
