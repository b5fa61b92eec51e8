"""Cached activations are the live ones; a cache is whole, of this model and data, or refused."""

from __future__ import annotations

import json
import resource
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import IncompleteError, UsageError
from lmmsae_eval.sae.cache import ActivationCache
from lmmsae_eval.sae.distributed import ALONE
from lmmsae_eval.sae.formats import load_sae
from lmmsae_eval.sae.lmm import Hookpoint
from lmmsae_eval.sae.progress import Quiet
from lmmsae_eval.sae.source import WHOLE, Share, TokenBatch
from lmmsae_eval.sae.train import train
from safetensors.torch import load_file

toy = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "toy_training.py")))


class Stopped(BaseException):
    """Nothing in the package catches it."""


def toy_train(
    out: Path, layers: tuple[int, ...] = (1, 2, 3), lmm: Any = None, **change: Any
) -> int:
    """Returns how many forwards it took."""
    lmm = lmm or toy.ToyLMM()
    hookpoints = [lmm.hookpoint(layer) for layer in layers]
    train(lmm, toy.PROMPTS, hookpoints, out=out, **(toy.SMALL | change))
    return int(lmm.forwards)


def bits(out: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(out.glob("*/sae.safetensors"))]


def test_training_from_the_cache_gives_the_live_bits_without_a_forward(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert toy_train(tmp_path / "live") > 0
    assert toy_train(tmp_path / "writing", cache=cache) == 5
    assert toy_train(tmp_path / "reading", cache=cache) == 0
    assert bits(tmp_path / "live") == bits(tmp_path / "writing") == bits(tmp_path / "reading")


def test_other_saes_and_fewer_layers_come_from_the_same_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    toy_train(tmp_path / "writing", cache=cache)
    assert toy_train(tmp_path / "b", (2,), cache=cache, n_latents=48, seed=3) == 0
    toy_train(tmp_path / "live", (2,), n_latents=48, seed=3)
    assert bits(tmp_path / "b") == bits(tmp_path / "live")


def test_a_killed_training_from_the_cache_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmmsae_eval.sae.step import TopKTrainer

    original = TopKTrainer.step

    def step(self: TopKTrainer, x: torch.Tensor, lr: float) -> Any:
        if list((tmp_path / "out" / "checkpoint").glob("*8.safetensors")):
            raise Stopped
        return original(self, x, lr)

    monkeypatch.setattr(TopKTrainer, "step", step)
    with pytest.raises(Stopped):
        toy_train(tmp_path / "out", cache=tmp_path / "cache", checkpoint_every=8)
    monkeypatch.setattr(TopKTrainer, "step", original)
    assert toy_train(tmp_path / "out", cache=tmp_path / "cache") == 0
    toy_train(tmp_path / "live")
    assert bits(tmp_path / "out") == bits(tmp_path / "live")


def test_an_interrupted_cache_is_not_whole_and_goes_on(tmp_path: Path) -> None:
    class Flaky(toy.ToyLMM):  # type: ignore[misc, name-defined]
        def forward(self, *arguments: Any, **more: Any) -> Any:
            if self.forwards == 3:
                raise Stopped
            return super().forward(*arguments, **more)

    cache = tmp_path / "cache"
    with pytest.raises(Stopped):
        toy_train(tmp_path / "out", lmm=Flaky(), cache=cache)
    assert json.loads((cache / "cache.json").read_text())["shards"] is None
    assert toy_train(tmp_path / "out", cache=cache) == 2
    toy_train(tmp_path / "live")
    assert bits(tmp_path / "out") == bits(tmp_path / "live")


def refused(tmp_path: Path, named: str, layers: tuple[int, ...] = (1,), **change: Any) -> None:
    with pytest.raises(UsageError, match=named) as error:
        toy_train(tmp_path / "other", layers, cache=tmp_path / "cache", **change)
    assert "\n" not in str(error.value)


def test_another_models_data_tokens_width_or_layers_are_refused(tmp_path: Path) -> None:
    toy_train(tmp_path / "out", (1, 2), cache=tmp_path / "cache")
    other, wide = toy.ToyLMM(), toy.ToyLMM()
    other.identity = "another"
    wide.d_model = 99
    refused(tmp_path, "model_identity 'toy', not 'another'", lmm=other)
    refused(tmp_path, "d_model 12, not 99", lmm=wide)
    refused(tmp_path, "data 'toy', not 'pictures'", data="pictures")
    refused(tmp_path, "tokens 'all', not 'text'", tokens="text")
    refused(tmp_path, r"model\.layers\.0, model\.layers\.1; train at these", (3,))


@pytest.mark.parametrize("damage", ["torn", "missing"])
def test_a_damaged_shard_is_one_line(tmp_path: Path, damage: str) -> None:
    toy_train(tmp_path / "out", cache=tmp_path / "cache")
    shard = tmp_path / "cache" / "00002.safetensors"
    if damage == "torn":
        shard.write_bytes(shard.read_bytes()[:-50])
    else:
        shard.unlink()
    refused(tmp_path, "can't read activations from .*00002")


def test_a_damaged_list_is_one_line(tmp_path: Path) -> None:
    toy_train(tmp_path / "out", cache=tmp_path / "cache")
    (tmp_path / "cache" / "cache.json").write_text("{}")
    refused(tmp_path, "is no list of activations")


def test_a_full_disk_is_one_line_and_the_cache_not_whole(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(IncompleteError, match=r"can't write .*free") as error:
            toy_train(tmp_path / "other", (1,), cache=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["cache.json"]
    assert toy_train(tmp_path / "other", (1,), cache=tmp_path / "cache") == 5


HERE = Hookpoint("model.layers.0", 0, "blocks.0")


def test_what_ran_in_bfloat16_is_kept_in_it_and_nothing_else(tmp_path: Path) -> None:
    half = torch.randn(5, 4).bfloat16().float()
    full = half + 1e-6

    def one_pass(skip: int) -> list[TokenBatch]:
        kinds = torch.full((5,), 2, dtype=torch.int8)
        return [TokenBatch({HERE: x}, kinds) for x in (half, full)][skip:]

    cache = ActivationCache(tmp_path, {"data": "x"}, [HERE])
    cache.write(one_pass, ALONE, Quiet())
    dtypes = [load_file(tmp_path / f"0000{i}.safetensors")[HERE.name].dtype for i in (0, 1)]
    assert dtypes == [torch.bfloat16, torch.float32]
    for chunk, x in zip(cache.read([HERE], 0, WHOLE), (half, full), strict=True):
        assert torch.equal(chunk.activations[HERE], x)
    [second] = cache.read([HERE], 0, Share(1, 2))
    assert torch.equal(second.activations[HERE], full)


def test_an_empty_source_is_one_line(tmp_path: Path) -> None:
    lmm = toy.ToyLMM()
    with pytest.raises(UsageError, match="no prompts to cache"):
        train(lmm, [], [lmm.hookpoint(1)], out=tmp_path / "out", cache=tmp_path / "c", **toy.SMALL)
    with pytest.raises(UsageError, match="holds no SAE"):
        load_sae(tmp_path / "out")
