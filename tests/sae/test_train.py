"""Training: planted dictionaries are found, seeds decide everything, bad input is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import load_sae
from lmmsae_eval.sae.lmm import (
    LMM,
    Batch,
    Hook,
    Hookpoint,
    Prompt,
    TokenKind,
    resolve_hookpoint,
)
from lmmsae_eval.sae.recipe import Recipe, learning_rate, published_lr
from lmmsae_eval.sae.source import TokenBatch
from lmmsae_eval.sae.step import variance
from lmmsae_eval.sae.train import train
from torch import Tensor
from torch.nn.functional import normalize

N_ATOMS, D, ACTIVE, TOKENS = 48, 24, 3, 256


class SparseLMM:
    """Its residual stream is a sparse sum of known atoms, others at each layer; a text seeds it."""

    name = "sparse toy"
    identity = "sparse"
    n_layers = 3
    d_model = D

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self.atoms = normalize(torch.randn(self.n_layers, N_ATOMS, D, generator=generator), dim=-1)
        self.forwards = 0

    def hookpoint(self, ref: str | int) -> Hookpoint:
        return resolve_hookpoint(ref, [f"blocks.{i}" for i in range(self.n_layers)], self.name)

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        codes = torch.stack([self._codes(int(prompt.text)) for prompt in prompts])
        kinds = torch.full(codes.shape[:2], TokenKind.IMAGE, dtype=torch.int8)
        kinds[:, TOKENS // 2 :] = TokenKind.TEXT
        kinds[:, 0] = TokenKind.PAD
        return Batch({"codes": codes}, kinds, [torch.zeros(0, 4)] * len(prompts))

    def _codes(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.rand(TOKENS, N_ATOMS, generator=generator).topk(ACTIVE).indices
        weights = 1 + torch.rand(TOKENS, ACTIVE, generator=generator)
        return torch.zeros(TOKENS, N_ATOMS).scatter(1, chosen, weights)

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        self.forwards += 1
        for hookpoint, hook in (hooks or {}).items():
            hook(batch.inputs["codes"] @ self.atoms[hookpoint.index] + 0.5, batch)
        return None

    def generate(
        self, batch: Batch, max_new_tokens: int, hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[str]:
        raise NotImplementedError

    def token_id(self, word: str) -> int:
        raise NotImplementedError


@pytest.fixture
def lmm() -> SparseLMM:
    return SparseLMM()


PROMPTS = [Prompt(str(seed)) for seed in range(200)]
SMALL: dict[str, Any] = {"n_latents": 32, "k": 3, "steps": 20, "batch_tokens": 256}


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> list[Tensor]:
    return list(load_sae(folder)[0][1].tensors)


def test_training_on_planted_sparse_data_finds_the_dictionary(
    lmm: SparseLMM, tmp_path: Path
) -> None:
    hookpoints = [lmm.hookpoint(layer) for layer in (1, 3)]
    folders = train(
        lmm,
        PROMPTS,
        hookpoints,
        out=tmp_path,
        n_latents=64,
        k=3,
        steps=500,
        batch_tokens=1024,
        lr=5e-3,
    )
    for hookpoint, folder in zip(hookpoints, folders, strict=True):
        [(name, sae)] = load_sae(folder)
        assert name == hookpoint.name
        cosines = lmm.atoms[hookpoint.index] @ sae.W_dec.T
        assert cosines.max(1).values.mean() > 0.95
        x = lmm.prepare([Prompt("9999")]).inputs["codes"][0] @ lmm.atoms[hookpoint.index] + 0.5
        assert (sae.reconstruct(x) - x).pow(2).sum() / variance(x) < 0.1


def test_all_layers_come_from_one_pass_of_the_model(lmm: SparseLMM, tmp_path: Path) -> None:
    train(lmm, PROMPTS, [lmm.hookpoint(i) for i in (1, 2, 3)], out=tmp_path, **SMALL)
    assert lmm.forwards <= 4


def test_training_is_deterministic_under_a_seed(lmm: SparseLMM, tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> list[Tensor]:
        [folder] = train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path / name, seed=seed, **SMALL)
        return weights(folder)

    first, again, other = trained("a", 1), trained("b", 1), trained("c", 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_layers_sae_does_not_depend_on_what_is_trained_beside_it(
    lmm: SparseLMM, tmp_path: Path
) -> None:
    alone = train(lmm, PROMPTS, [lmm.hookpoint(2)], out=tmp_path / "alone", **SMALL)
    beside = train(
        lmm, PROMPTS, [lmm.hookpoint(i) for i in (1, 2)], out=tmp_path / "beside", **SMALL
    )
    for a, b in zip(weights(alone[0]), weights(beside[1]), strict=True):
        assert torch.equal(a, b)


def test_fvu_falls_and_is_told_for_each_kind_of_token(lmm: SparseLMM, tmp_path: Path) -> None:
    train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path, **(SMALL | {"steps": 100}))
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 50, 99]
    assert lines[-1]["fvu"] < lines[0]["fvu"]
    assert lines[-1].keys() >= {"hookpoint", "lr", "l0", "dead", "fvu_image", "fvu_text"}
    assert all(0 < line["l0"] <= 3 for line in lines)


def test_the_config_tells_model_hookpoints_and_recipe(lmm: SparseLMM, tmp_path: Path) -> None:
    train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path, seed=5, **SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model"], config["hookpoints"]) == ("sparse toy", ["model.layers.0"])
    assert (config["n_latents"], config["k"], config["steps"], config["seed"]) == (32, 3, 20, 5)


def test_another_layer_in_the_same_folder_keeps_the_first_ones_record(
    lmm: SparseLMM, tmp_path: Path
) -> None:
    train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path, seed=5, **SMALL)
    first = metrics(tmp_path)
    train(lmm, PROMPTS, [lmm.hookpoint(2)], out=tmp_path, seed=6, **SMALL)
    both = metrics(tmp_path)
    train(lmm, PROMPTS, [lmm.hookpoint(2)], out=tmp_path, seed=6, **SMALL)

    assert both[: len(first)] == first
    assert {line["hookpoint"] for line in both} == {"model.layers.0", "model.layers.1"}
    assert metrics(tmp_path) == both
    for layer, seed in ((0, 5), (1, 6)):
        folder = tmp_path / f"model.layers.{layer}"
        assert json.loads((folder / "config.json").read_text())["seed"] == seed


def test_a_number_of_tokens_decides_the_number_of_steps(lmm: SparseLMM, tmp_path: Path) -> None:
    train(
        lmm,
        PROMPTS,
        [lmm.hookpoint(1)],
        out=tmp_path,
        n_latents=16,
        k=2,
        n_tokens=2500,
        batch_tokens=1000,
    )
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 3
    assert metrics(tmp_path)[-1]["step"] == 2


def test_few_prompts_are_gone_through_again(lmm: SparseLMM, tmp_path: Path) -> None:
    train(lmm, PROMPTS[:2], [lmm.hookpoint(1)], out=tmp_path, **SMALL)
    assert metrics(tmp_path)[-1]["step"] == 19


def test_prompts_may_come_from_a_generator(lmm: SparseLMM, tmp_path: Path) -> None:
    train(lmm, (p for p in PROMPTS[:2]), [lmm.hookpoint(1)], out=tmp_path, **SMALL)
    assert metrics(tmp_path)[-1]["step"] == 19


def test_the_learning_rate_rises_holds_and_falls() -> None:
    recipe = Recipe(steps=100, lr=1.0, warmup=0.1, cooldown=0.2)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == 1.0
    assert rates[-1] == pytest.approx(0.05)
    assert max(rates) == 1.0


def test_the_published_rule_gives_the_papers_rate() -> None:
    assert published_lr(2**14) == 2e-4
    assert published_lr(2**17) == pytest.approx(2e-4 / 8**0.5)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> None:
    assert str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"k": 33}, "k is 33"), ({"k": 0}, "k is 0"), ({"steps": 0}, "steps")],
)
def test_impossible_numbers_are_one_line(
    lmm: SparseLMM, tmp_path: Path, change: dict[str, int], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path, **(SMALL | change))
    one_line(error)


def test_no_prompts_and_no_hookpoints_are_one_line(lmm: SparseLMM, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no prompts") as error:
        train(lmm, [], [lmm.hookpoint(1)], out=tmp_path, **SMALL)
    one_line(error)
    with pytest.raises(UsageError, match="no hookpoints") as error:
        train(lmm, PROMPTS, [], out=tmp_path, **SMALL)
    one_line(error)


def test_an_output_that_cannot_be_written_is_one_line(lmm: SparseLMM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="can't write") as error:
        train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path / "file" / "saes", **SMALL)
    one_line(error)


def test_an_interrupted_training_leaves_no_sae_behind(
    lmm: SparseLMM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmmsae_eval.sae.step import TopKTrainer

    def interrupted(self: TopKTrainer, x: Tensor, lr: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TopKTrainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(lmm, PROMPTS, [lmm.hookpoint(1)], out=tmp_path, **SMALL)
    with pytest.raises(UsageError, match="holds no SAE"):
        load_sae(tmp_path)


def test_a_real_llava_is_trained_on_images_and_text(tiny_lmm: LMM, tmp_path: Path) -> None:
    from PIL import Image

    prompts = [
        Prompt("is there a boat ?", Image.new("RGB", (96, 96), (20 * i, 9, 90))) for i in range(9)
    ]
    hookpoints = [tiny_lmm.hookpoint(layer) for layer in (2, 5)]
    train(tiny_lmm, prompts, hookpoints, out=tmp_path, n_latents=32, k=4, steps=8, batch_tokens=512)
    assert [name for name, _ in load_sae(tmp_path)] == ["model.layers.1", "model.layers.4"]
    assert {line["hookpoint"] for line in metrics(tmp_path)} == {"model.layers.1", "model.layers.4"}


def test_a_token_batch_knows_its_size() -> None:
    batch = TokenBatch({Hookpoint("a", 0, "a"): torch.zeros(5, 4)}, torch.zeros(5))
    assert (len(batch), batch.nbytes) == (5, 80)
