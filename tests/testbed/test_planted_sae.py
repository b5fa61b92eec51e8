"""The planted subject's SAEs: the true one is exact, spoilt ones fall, trained ones find it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lmmsae_eval.sae.attribution import attribute
from lmmsae_eval.sae.formats import load_sae
from lmmsae_eval.sae.lmm import Batch, Prompt
from lmmsae_eval.sae.residual import capture, yes_no
from lmmsae_eval.sae.steering import reconstruct, steer
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.sae.train import train
from lmmsae_eval.tasks.features.masks import best_tokens, iou, token_mask
from lmmsae_eval.testbed.planted import (
    PlantedLMM,
    PlantedTestbed,
    causal_latents,
    label_latent,
    planted,
    true_sae,
)
from lmmsae_eval.testbed.planted.dictionary import FEATURES
from lmmsae_eval.testbed.world.labels import LABELS, VOCABULARY
from torch import Tensor

WORLD = PlantedTestbed()
PICTURES = WORLD.images("score", 48, seed=6)
CORRUPTIONS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)
N_LABELS = len(VOCABULARY)


@pytest.fixture(scope="module")
def lmm() -> PlantedLMM:
    return WORLD.load_lmm()


@pytest.fixture(scope="module")
def pictures(lmm: PlantedLMM) -> Batch:
    return lmm.prepare([Prompt("", PICTURES.image(i)) for i in range(len(PICTURES))])


class Asked(NamedTuple):
    """Questions on priors' things, and their true answers."""

    batch: Batch
    true: Tensor
    causal: Tensor
    """`(questions, 2)` latents, -1 for none."""


@pytest.fixture(scope="module")
def asked(lmm: PlantedLMM) -> Asked:
    questions = WORLD.questions("test")
    records = [r for r in questions.records if str(r["kind"]).startswith("prior")][:96]
    batch = lmm.prepare([Prompt(str(r["question"]), questions.image_for(r)) for r in records])
    causal = [[*causal_latents(str(r["topic"])), -1][:2] for r in records]
    true = torch.tensor([r["gt_answer"] == "1" for r in records])
    return Asked(batch, true, torch.tensor(causal))


def active_patches(lmm: PlantedLMM, pictures: Batch, sae: TopK, layer: int) -> Tensor:
    """`(pictures, 144, n_labels)` bool."""
    hookpoint = lmm.hookpoint(layer)
    found = sae.encode(capture(lmm, pictures, [hookpoint])[hookpoint][:, 1:])
    dense = torch.zeros(*found.indices.shape[:2], sae.n_latents)
    dense.scatter_(2, found.indices.long(), found.values)
    return dense[..., :N_LABELS] > 0


def mean_iou(lmm: PlantedLMM, pictures: Batch, sae: TopK, layer: int = 1) -> float:
    """Over labels, of active patches with those where the label is true."""
    active = active_patches(lmm, pictures, sae, layer)
    true = pictures.extra["values"][:, 1:, :N_LABELS] > 0
    either = (active | true).sum((0, 1))
    return float(((active & true).sum((0, 1)) / either)[either > 0].mean())


def corrected(lmm: PlantedLMM, asked: Asked, sae: TopK, layer: int = 1) -> tuple[float, float]:
    """Shares of wrong answers mended and of right answers broken by ablating the causal latents."""
    hook = {lmm.hookpoint(layer): steer(sae, asked.causal, 0.0)}
    with torch.no_grad():
        before, after = yes_no(lmm, asked.batch), yes_no(lmm, asked.batch, hook)
    right, now = (before > 0) == asked.true, (after > 0) == asked.true
    return float(now[~right].float().mean()), float((~now)[right].float().mean())


def unexplained(lmm: PlantedLMM, pictures: Batch, sae: TopK, layer: int) -> tuple[float, float]:
    """Mean squared error of a patch's reconstruction, and the squared noise in it."""
    hookpoint = lmm.hookpoint(layer)
    x = capture(lmm, pictures, [hookpoint])[hookpoint][:, 1:]
    noise = x @ planted().noise.T
    return float((sae.reconstruct(x) - x).pow(2).sum(-1).mean()), float(noise.pow(2).sum(-1).mean())


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_true_sae_lacks_nothing_but_the_noise(
    lmm: PlantedLMM, pictures: Batch, layer: int
) -> None:
    sae = true_sae(layer)
    error, noise = unexplained(lmm, pictures, sae, layer)

    assert error == pytest.approx(noise, rel=1e-3)
    assert mean_iou(lmm, pictures, sae, layer) == 1


def test_its_latents_are_the_features_and_the_spare_ones_never_fire(
    lmm: PlantedLMM, asked: Asked
) -> None:
    hookpoint = lmm.hookpoint(2)
    found = true_sae(hookpoint).encode(capture(lmm, asked.batch, [hookpoint])[hookpoint][:, 1:])
    dense = torch.zeros(*found.indices.shape[:2], 512).scatter_(
        2, found.indices.long(), found.values
    )

    assert torch.allclose(
        dense[..., : len(FEATURES)], asked.batch.extra["values"][:, 1:], atol=1e-3
    )
    assert (dense[..., len(FEATURES) :] == 0).all()


def test_its_patches_reach_the_ceiling_of_the_patch_grid(lmm: PlantedLMM, pictures: Batch) -> None:
    boxes = pictures.boxes[0].numpy()
    active = active_patches(lmm, pictures, true_sae(1), 1).numpy()
    reached: dict[str, list[float]] = {concept: [] for concept in LABELS}
    ceiling: dict[str, list[float]] = {concept: [] for concept in LABELS}
    for i in range(len(PICTURES)):
        for label, concept in VOCABULARY.items():
            tokens = np.flatnonzero(active[i, :, label_latent(label)])
            truth = PICTURES.mask(i, label)
            if tokens.size:
                best = best_tokens(truth, boxes)
                reached[concept].append(iou(token_mask(boxes, tokens, (96, 96)), truth) or 0)
                ceiling[concept].append(iou(token_mask(boxes, best, (96, 96)), truth) or 0)

    for concept in LABELS:
        assert np.mean(ceiling[concept]) * 0.98 <= np.mean(reached[concept]), concept
        assert (np.array(reached[concept]) <= np.array(ceiling[concept]) + 1e-9).all()


@pytest.mark.parametrize("corruption", [0.0, 0.3])
def test_attribution_equals_exact_ablation(
    lmm: PlantedLMM, asked: Asked, corruption: float
) -> None:
    hookpoint = lmm.hookpoint(2)
    sae = true_sae(hookpoint, corruption)
    few = Batch({}, asked.batch.kinds[:16], [], {k: v[:16] for k, v in asked.batch.extra.items()})
    found = attribute(lmm, few, hookpoint, sae)
    supports = found.per_latent()

    for latent in [*range(N_LABELS, len(FEATURES)), label_latent("sea"), label_latent("boat")]:
        hook = steer(sae, torch.tensor([latent]), 0.0)
        change = found.metric - yes_no(lmm, few, {hookpoint: hook}).detach()
        assert torch.allclose(change, supports[:, latent], atol=1e-4), FEATURES[latent]


def test_attribution_points_at_the_prior_on_wrong_answers(lmm: PlantedLMM, asked: Asked) -> None:
    found = attribute(lmm, asked.batch, lmm.hookpoint(1), true_sae(1))
    wrong = (found.metric > 0) != asked.true
    against = found.per_latent() * torch.where(asked.true, 1.0, -1.0)[:, None]

    blamed = against.argmin(1)

    assert wrong.sum() > 20
    assert (blamed[:, None] == asked.causal).any(1)[wrong].all()


def test_reconstruction_keeps_every_answer(lmm: PlantedLMM, asked: Asked) -> None:
    before = yes_no(lmm, asked.batch)
    for layer in (1, 2, 3):
        hook = {lmm.hookpoint(layer): reconstruct(true_sae(layer), error=False)}
        assert torch.allclose(yes_no(lmm, asked.batch, hook), before, atol=1e-2)


def test_recovery_falls_with_corruption(lmm: PlantedLMM, pictures: Batch, asked: Asked) -> None:
    saes = [true_sae(2, corruption) for corruption in CORRUPTIONS]
    D = planted().D
    cosines = [float((sae.W_dec[: len(D)] * D).sum(1).mean()) for sae in saes]
    overlaps = [mean_iou(lmm, pictures, sae, 2) for sae in saes]
    errors = [unexplained(lmm, pictures, sae, 2)[0] for sae in saes[:-1]]
    mended = [corrected(lmm, asked, sae, 2)[0] for sae in saes]

    for values in (cosines, overlaps, [-error for error in errors]):
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == len(values)
    assert mended == sorted(mended, reverse=True)
    assert (mended[0], mended[-1]) == (1, 0)
    assert 0 < mended[1] < 1
    assert (overlaps[0], cosines[0]) == (1, pytest.approx(1))
    assert max(overlaps[-1], abs(cosines[-1])) < 0.1


def test_no_corruption_breaks_a_right_answer(lmm: PlantedLMM, asked: Asked) -> None:
    assert all(corrected(lmm, asked, true_sae(1, c), 1)[1] == 0 for c in CORRUPTIONS)


def test_a_spoilt_sae_reads_deeper_layers_better(lmm: PlantedLMM, pictures: Batch) -> None:
    overlaps = [mean_iou(lmm, pictures, true_sae(layer, 0.25), layer) for layer in (1, 2, 3)]

    assert overlaps == sorted(overlaps)
    assert overlaps[2] > overlaps[0] + 0.05


def test_corruption_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        true_sae(1, 1.5)


@pytest.mark.slow
def test_training_recovers_the_dictionary(lmm: PlantedLMM, tmp_path: Path) -> None:
    prompts = list(WORLD.sae_training_prompts(400, seed=1))
    layers = [lmm.hookpoint(1), lmm.hookpoint(3)]
    small = {"n_latents": 256, "k": 8, "steps": 300, "batch_tokens": 1024, "lr": 5e-3}
    folders = train(lmm, prompts, layers, out=tmp_path, **small)
    found = []
    for folder in folders:
        [(_, sae)] = load_sae(folder)
        found.append(best_cosines(sae))
        assert found[-1].mean() > 2 * best_cosines(sae.untrained()).mean()

    colours = [label_latent(label) for label in LABELS["colour"]]
    assert found[1][colours].mean() > 0.85
    assert found[1].mean() > 0.65
    assert found[1].mean() > found[0].mean()


def best_cosines(sae: TopK) -> Tensor:
    """`(n_labels,)`: of each label's direction with the nearest decoder row."""
    return (planted().D[:N_LABELS] @ sae.W_dec.T).max(1).values
