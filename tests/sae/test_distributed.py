"""Two processes under torchrun learn what one learns, and never wait for each other for ever."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.distributed import ALONE, Ranks, joined
from lmmsae_eval.sae.formats import load_sae
from lmmsae_eval.sae.shard import shard_of
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.sae.train import train
from torch import Tensor

SCRIPT = Path(__file__).parent / "toy_training.py"
toy = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two gloo ranks left."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(out), "--ranks"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


def weights(folder: Path) -> list[list[Tensor]]:
    return [list(sae.tensors) for _, sae in load_sae(folder)]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_two_ranks_learn_what_one_learns_from_the_same_batches(two: Path, name: str) -> None:
    """Thresholds too: they are among the tensors."""
    alone = toy.double_steps(
        toy.double_learner(ALONE, architecture=name),
        lambda step: torch.cat(toy.global_batch(step)),
    )
    for rank in (0, 1):
        together = torch.load(two / f"{name}{rank}.pt", weights_only=True)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_a_rank_without_a_single_token_takes_part(two: Path) -> None:
    assert len(weights(two / "few")) == 1
    assert len((two / "few" / "metrics.jsonl").read_text().splitlines()) == 2


def test_data_parallel_training_makes_every_sae_and_one_log(two: Path) -> None:
    assert len(weights(two / "data")) == 3
    lines = [json.loads(line) for line in (two / "data" / "metrics.jsonl").read_text().splitlines()]
    first = [line for line in lines if line["step"] == 0]
    assert [line["hookpoint"] for line in first] == [f"model.layers.{i}" for i in range(3)]
    last = [line for line in lines if line["step"] == 29]
    assert all(b["fvu"] < a["fvu"] for a, b in zip(first, last, strict=True))


@pytest.mark.parametrize("how", ["layers", "cached"])
def test_a_layer_a_rank_gives_the_very_bits_of_one_process(
    two: Path, tmp_path: Path, how: str
) -> None:
    toy.toy_train(tmp_path)
    for alone, shared in zip(weights(tmp_path), weights(two / how), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("name", toy.SHARDED)
def test_ranks_with_some_latents_each_learn_what_one_learns(two: Path, name: str) -> None:
    alone, told = toy.sharded_steps(name, ALONE)
    assert (told["dead"] > 0) == (name in toy.DEAD)
    for rank in (0, 1):
        together, measured = torch.load(two / f"shard {name}{rank}.pt", weights_only=True)
        assert measured == pytest.approx(told, rel=1e-6)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_latents_of_two_ranks_become_one_sae_of_the_weights_of_one_process(
    two: Path, tmp_path: Path
) -> None:
    toy.toy_train(tmp_path)
    for alone, shared in zip(weights(tmp_path), weights(two / "latents"), strict=True):
        for a, b in zip(alone, shared, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)  # 30 steps in float32
    assert not (two / "latents" / "checkpoint").exists()


@pytest.mark.parametrize("how", ["cached latents", "stopped"])
def test_latents_shared_out_give_the_same_files_from_a_cache_and_when_stopped(
    two: Path, how: str
) -> None:
    for live, other in zip(weights(two / "latents"), weights(two / how), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(live, other, strict=True))
    [a, b] = ((two / name / "metrics.jsonl").read_text() for name in ("latents", how))
    assert a == b


@pytest.mark.parametrize(("n_latents", "k"), [(31, 3), (32, 17)])
def test_latents_that_do_not_go_round_are_one_line(n_latents: int, k: int) -> None:
    with pytest.raises(UsageError, match=r"choose a multiple of 2|start fewer") as error:
        shard_of(TopK.random(n_latents, 8, k, seed=0), Ranks(0, 2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["jump_relu", "gated"])
def test_latents_of_another_architecture_are_not_shared_out(name: str) -> None:
    with pytest.raises(UsageError, match=rf"only latents of topk, .* not those of {name}") as error:
        shard_of(ARCHITECTURES[name].random(32, 8, 3, seed=0), Ranks(0, 2))
    assert "\n" not in str(error.value)


def test_what_cannot_be_shared_out_is_told_before_any_forward(tmp_path: Path) -> None:
    lmm = toy.ToyLMM()
    with pytest.raises(UsageError, match="not those of gated"):
        train(
            *(lmm, toy.PROMPTS, [lmm.hookpoint(1)]),
            out=tmp_path / "out",
            architecture="gated",
            distribute="latents",
            ranks=Ranks(0, 2),
        )
    assert lmm.forwards == 0
    assert not (tmp_path / "out").exists()


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == ALONE
