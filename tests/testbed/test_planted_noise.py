"""IoU of the planted dictionary: at the ceiling when it is true, lower with every share of noise.

Noise is a random direction in the encoder and decoder of every feature. Two questions are asked.
*Held* explanations are the planted labels, whatever becomes of the latents: all planted latents
count, silent ones as 0, and noise leaves nothing in the end. With explanations *of their own* the
spoilt latents are explained afresh, as an untrained SAE's are: noise then ends at the floor of
random directions, which fire on something too, and is monotone down to that floor alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.task import Context
from lmmsae_eval.sae.topk import TrainedSae
from lmmsae_eval.tasks.features.imported import Published
from lmmsae_eval.tasks.features.roles import Roles
from lmmsae_eval.tasks.iou import Iou
from lmmsae_eval.tasks.subject import Subject
from lmmsae_eval.testbed.planted import PlantedTestbed, label_latent, true_sae
from lmmsae_eval.testbed.world.labels import VOCABULARY

PLANTED = Published(
    {
        "label": {(None, label_latent(label)): label for label in VOCABULARY},
        "concept": {(None, label_latent(label)): concept for label, concept in VOCABULARY.items()},
    },
    sha256="the planted labels",
)
NOISE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
FLOOR = 0.8
"""From here on latents that are explained afresh are as good as random directions."""


def scores(
    world: PlantedTestbed, layer: int, noise: float, roles: Roles, images: int = 120
) -> dict[str, float]:
    """Mean IoU by arm on held-out top images; what has no number counts 0 for `main`."""
    lmm = world.load_lmm()
    sae = TrainedSae("planted", lmm.hookpoint(layer), true_sae(layer, noise))
    provider: Any = world
    subject = Subject(
        lmm, [sae], provider, n_search=2 * images, n_score=images, seed=layer, roles=roles
    )
    context = Context(subject, ArtefactStore(), SilentProgress(), params={"latents_per_sae": 512})
    task, found = Iou(), dict[str, list[float]]()
    wanted = ("/main/top", "/hard_shuffled/top", "/ceiling/top")
    samples = [sample for sample in task.samples(context) if sample.id.endswith(wanted)]
    for sample, outcome in zip(samples, task.evaluate(samples, context), strict=True):
        if outcome.status == "ok" or sample.arm == "main":
            found.setdefault(sample.arm, []).append(outcome.scores.get("iou_top", 0.0))
    return {arm: fmean(values) for arm, values in found.items()}


def gain(found: dict[str, float]) -> float:
    null, ceiling = found["hard_shuffled"], found["ceiling"]
    return (found["main"] - null) / (ceiling - null)


def falling(values: Sequence[float]) -> bool:
    return all(after < before for before, after in pairwise(values))


def test_iou_is_at_the_ceiling_and_falls_to_nothing_as_noise_is_mixed_in(
    world: PlantedTestbed,
) -> None:
    found = [scores(world, 2, noise, Roles(published=PLANTED), 60) for noise in (*NOISE[::2], 1.0)]
    raw, gains = [one["main"] for one in found], [gain(one) for one in found]
    assert raw[0] >= 0.98 * found[0]["ceiling"]
    assert falling(raw)
    assert falling(gains)
    assert raw[-1] < 0.1
    assert abs(gains[-1]) < 0.1


@pytest.mark.campaign
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_iou_falls_with_every_tenth_of_noise(world: PlantedTestbed, layer: int) -> None:
    roles = Roles(published=PLANTED)
    found = [scores(world, layer, tenth / 10, roles) for tenth in range(11)]
    for values in ([one["main"] for one in found], [gain(one) for one in found]):
        assert falling(values[::2])
        # The first tenth costs only patches on the border, half of them wrong: it may gain a hair.
        assert all(after < before + 0.001 for before, after in pairwise(values))


@pytest.mark.campaign
def test_explained_afresh_it_falls_to_the_floor_of_random_directions(world: PlantedTestbed) -> None:
    """Averaged over three layers, each with pictures and noise of its own."""
    gains = [fmean(gain(scores(world, n, noise, Roles())) for n in (1, 2, 3)) for noise in NOISE]
    above = [value for noise, value in zip(NOISE, gains, strict=True) if noise <= FLOOR]
    assert falling(above)
    assert abs(gains[-1] - above[-1]) < 0.05
    assert gains[0] > 0.98
    assert gains[-1] < 0.7
