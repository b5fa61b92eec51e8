"""The planted subject: what it knows, what it answers, and that both are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from lmmsae_eval.harness.registry import TESTBEDS
from lmmsae_eval.sae.lmm import Batch, NotInModelError, Prompt, TokenKind
from lmmsae_eval.sae.load import load_lmm
from lmmsae_eval.sae.residual import capture, yes_no
from lmmsae_eval.sae.steering import steer
from lmmsae_eval.testbed.planted import (
    NOISE,
    PlantedLMM,
    PlantedTestbed,
    causal_latents,
    label_latent,
    planted,
    prior_pull,
    true_sae,
)
from lmmsae_eval.testbed.planted.provider import KnownQuestions
from lmmsae_eval.testbed.planted.readout import EVIDENCE, PRIOR, readout
from lmmsae_eval.testbed.planted.weights import N_LATENTS
from lmmsae_eval.testbed.world.labels import PRIORS, VOCABULARY, prior_of
from lmmsae_eval.testbed.world.scene import random_scene

Record = dict[str, str | None]
WORLD = PlantedTestbed()
PICTURES = WORLD.images("score", 24, seed=5)


@pytest.fixture(scope="module")
def lmm() -> PlantedLMM:
    return WORLD.load_lmm()


@pytest.fixture(scope="module")
def questions() -> KnownQuestions:
    """Every seventh family of the dev questions: all kinds, all priors."""
    asked = WORLD.questions("dev")
    asked.records = [record for record in asked.records if int(record["set_id"] or 0) % 7 == 1]
    return asked


def batches(lmm: PlantedLMM, asked: KnownQuestions) -> list[tuple[list[Record], Batch]]:
    parts = [asked.records[i : i + 64] for i in range(0, len(asked.records), 64)]
    return [
        (part, lmm.prepare([Prompt(str(r["question"]), asked.image_for(r)) for r in part]))
        for part in parts
    ]


@pytest.fixture(scope="module")
def prepared(lmm: PlantedLMM, questions: KnownQuestions) -> list[tuple[list[Record], Batch]]:
    return batches(lmm, questions)


@pytest.fixture(scope="module")
def truth(questions: KnownQuestions) -> torch.Tensor:
    return torch.tensor([record["gt_answer"] == "1" for record in questions.records])


@pytest.fixture(scope="module")
def margins(lmm: PlantedLMM, prepared: list[tuple[list[Record], Batch]]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([yes_no(lmm, batch) for _, batch in prepared])


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    width = max(1, *map(len, rows))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows])


def ablated(
    lmm: PlantedLMM,
    prepared: list[tuple[list[Record], Batch]],
    latents: Sequence[Sequence[int]],
    layer: int = 1,
) -> torch.Tensor:
    """Margins after zero ablation of each question's latents."""
    hookpoint, rest = lmm.hookpoint(layer), iter(latents)
    after = []
    for records, batch in prepared:
        rows = padded([next(rest) for _ in records])
        hook = steer(true_sae(hookpoint), rows, 0.0)
        after.append(yes_no(lmm, batch, {hookpoint: hook}))
    return torch.cat(after).detach()


def test_the_dictionary_is_nearly_orthogonal_and_noise_lies_outside_it() -> None:
    D, dual, noise = planted().D, planted().dual, planted().noise
    cosines = (D @ D.T - torch.eye(len(D))).abs()

    assert D.norm(dim=1) == pytest.approx(torch.ones(len(D)))
    assert 0.03 < cosines.max() < 0.12
    assert torch.allclose(dual @ D.T, torch.eye(len(D)), atol=1e-5)
    assert (noise @ D.T).abs().max() < 1e-6
    assert (noise @ planted().bos).abs().max() < 1e-6


def test_both_ways_to_the_subject_lead_to_the_same_one() -> None:
    testbed = TESTBEDS.get("testbed:planted")()

    assert testbed.load_lmm() is load_lmm("testbed:planted")


def test_the_residual_is_the_true_features_plus_ever_less_noise(lmm: PlantedLMM) -> None:
    batch = lmm.prepare([Prompt("is there a boat ?", PICTURES.image(i)) for i in range(8)])
    hookpoints = [lmm.hookpoint(f"model.layers.{i}") for i in range(lmm.n_layers)]

    for level, x in zip(NOISE, capture(lmm, batch, hookpoints).values(), strict=True):
        read = x[:, 1:] @ planted().dual.T
        assert torch.allclose(read, batch.extra["values"][:, 1:], atol=1e-5)
        assert (x @ planted().noise.T).std() == pytest.approx(level, rel=0.03)


def test_a_batch_answers_as_its_prompts_do_alone(lmm: PlantedLMM) -> None:
    prompts = [
        Prompt("is there a boat in the sea ?", PICTURES.image(0)),
        Prompt("is there a boat in the sea ?"),
        Prompt("what colour is highlighted ?", PICTURES.image(2)),
        Prompt("", PICTURES.image(3)),
    ]
    together = lmm.prepare(prompts)
    last = lmm.hookpoint(lmm.n_layers)
    logits, residual = lmm.forward(together), capture(lmm, together, [last])[last]

    for row, prompt in enumerate(prompts):
        alone = lmm.prepare([prompt])
        mine = together.kinds[row] != TokenKind.PAD
        assert torch.equal(together.kinds[row][mine], alone.kinds[0])
        assert torch.allclose(residual[row][mine], capture(lmm, alone, [last])[last][0], atol=1e-5)
        assert (residual[row][~mine] == 0).all()
        assert torch.allclose(logits[row], lmm.forward(alone)[0], atol=1e-4)


def test_seeds_reproduce_the_subject(lmm: PlantedLMM) -> None:
    twin = PlantedLMM()
    image = twin.known.add(PICTURES.scenes[4], PICTURES.image(4))
    prompt = Prompt("is there a moon ?", image)

    first, second = lmm.prepare([prompt]), twin.prepare([prompt])

    assert twin.identity == lmm.identity
    assert torch.equal(first.extra["noise"], second.extra["noise"])
    assert torch.equal(lmm.forward(first), twin.forward(second))


def test_the_untouched_subject_is_wrong_exactly_where_a_prior_outweighs_the_evidence(
    lmm: PlantedLMM, questions: KnownQuestions, margins: torch.Tensor, truth: torch.Tensor
) -> None:
    wrong = {"prior_yes": 0, "prior_no": 0}
    for record, margin, true in zip(questions.records, margins, truth, strict=True):
        expected = EVIDENCE if true else -EVIDENCE
        scene = questions.scenes[record["filename"]] if record["filename"] else None
        prior = prior_of(str(record["sample_note"]), str(record["topic"]))
        if prior:
            pull = prior_pull(prior, scene) if scene else 1.0
            expected += pull * (PRIOR if prior.answer == "yes" else -PRIOR)
        assert float(margin) == pytest.approx(expected, abs=1e-4)
        if (margin > 0) != true:
            wrong[str(record["kind"])] += 1

    assert min(wrong.values()) >= 8


def test_taking_the_causal_latents_away_mends_every_wrong_answer_and_breaks_none(
    lmm: PlantedLMM,
    questions: KnownQuestions,
    prepared: list[tuple[list[Record], Batch]],
    margins: torch.Tensor,
    truth: torch.Tensor,
) -> None:
    causal = [causal_latents(str(record["topic"])) for record in questions.records]
    assert ((margins > 0) != truth).any()

    for layer in range(1, lmm.n_layers + 1):
        after = ablated(lmm, prepared, causal, layer)
        assert ((after > 0) == truth).all()


def test_latents_that_nobody_reads_change_nothing(
    lmm: PlantedLMM,
    questions: KnownQuestions,
    prepared: list[tuple[list[Record], Batch]],
    margins: torch.Tensor,
) -> None:
    rng = np.random.default_rng(0)
    unread = [*range(len(VOCABULARY)), *range(len(planted().D), N_LATENTS)]
    drawn = [rng.choice(unread, 12, replace=False).tolist() for _ in questions.records]

    assert torch.allclose(ablated(lmm, prepared, drawn), margins, atol=1e-4)


def test_no_constant_offset_nets_anything(margins: torch.Tensor, truth: torch.Tensor) -> None:
    untouched = ((margins > 0) == truth).sum()
    cuts = torch.cat([margins, margins - 1e-3])

    best = max(int(((margins > cut) == truth).sum()) for cut in cuts)

    assert best - untouched <= 0.02 * len(truth)


def test_a_figure_and_its_edit_share_their_prior() -> None:
    original = next(scene for scene in PICTURES.scenes if scene.things)
    edited = original.without(original.things[0].name)

    assert edited != original
    assert prior_pull(PRIORS[0], edited) == prior_pull(PRIORS[0], original)


def test_priors_are_strong_on_their_share_of_pictures() -> None:
    rng = np.random.default_rng(3)
    for prior in PRIORS:
        scenes = [random_scene(rng, prior.scene, things=()) for _ in range(400)]
        strong = np.mean([prior_pull(prior, s) * PRIOR > EVIDENCE for s in scenes])
        assert strong == pytest.approx(prior.strength, abs=0.08)


def test_a_label_latent_turned_on_at_the_answer_makes_the_subject_say_the_label(
    lmm: PlantedLMM,
) -> None:
    batch = lmm.prepare([Prompt("describe the image .", PICTURES.image(0))])

    def say_cactus(x: torch.Tensor, batch: Batch) -> torch.Tensor:
        last = torch.zeros_like(x)
        last[:, -1] = 2 * planted().D[label_latent("cactus")]
        return x + last

    for layer in range(1, lmm.n_layers + 1):
        assert lmm.generate(batch, 1, {lmm.hookpoint(layer): say_cactus}) == ["cactus"]


def test_layers_and_words_that_are_not_there_are_refused(lmm: PlantedLMM) -> None:
    with pytest.raises(NotInModelError, match="from 1 to 3"):
        lmm.hookpoint(4)
    for word in ("raven", "<unk>"):
        with pytest.raises(NotInModelError, match="not a word"):
            lmm.token_id(word)


def test_a_stirred_yes_no_answer_stays_yes_or_no(lmm: PlantedLMM) -> None:
    batch = lmm.prepare([Prompt("is there a boat ?", PICTURES.image(i)) for i in range(16)])

    def stir(x: torch.Tensor, batch: Batch) -> torch.Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        return x + noise / lmm.d_model**0.5

    assert set(lmm.generate(batch, 1, {lmm.hookpoint(2): stir})) <= {"yes", "no"}


@pytest.mark.parametrize("made", [planted, readout])
def test_what_is_first_made_in_inference_mode_can_still_be_differentiated_through(
    made: Callable[[], object],
) -> None:
    made.cache_clear()  # type: ignore[attr-defined]
    with torch.inference_mode():
        kept = vars(made())
    assert not any(tensor.is_inference() for tensor in kept.values())
