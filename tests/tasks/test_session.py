"""`run`: from options to a complete run directory."""

from __future__ import annotations

import json

import pytest
import torch
from lmmsae_eval.errors import UnknownNameError, UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.registry import TESTBEDS
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.formats import save_sae
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.tasks import training
from lmmsae_eval.tasks.loading import load_saes, open_subject
from lmmsae_eval.tasks.request import Request
from lmmsae_eval.tasks.session import run
from lmmsae_eval.tasks.training import DefaultRecipe, trained_saes

WORLD = "tests/planted"
N_LATENTS = 40
"""Of the planted subject."""
SMALL = {"halluc": {"random": 2, "n_test": 20, "tried": 2, "tried_global": 1}}


@pytest.fixture
def world(planted, tmp_path, monkeypatch):
    """The planted subject as a plugin's testbed, an empty cache, and an SAE recipe of a second."""
    monkeypatch.setitem(TESTBEDS._registered, WORLD, lambda: planted.provider)
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path / "cache"))
    recipe = DefaultRecipe(n_latents=48, n_tokens=8192, n_prompts=60)
    monkeypatch.setattr(training, "RECIPE", recipe)
    monkeypatch.chdir(tmp_path)
    return planted


def small_run(**options):
    return run(["halluc"], **{"model": WORLD, "params": SMALL, **options})


def hookpoints(done):
    return [sae["hookpoint"] for sae in done.document["saes"]]


def test_with_tasks_alone_saes_are_trained_and_the_run_is_complete(world, tmp_path):
    done = small_run()
    assert done.complete
    assert done.path.parent == (tmp_path / "runs").relative_to(tmp_path)
    assert hookpoints(done) == ["model.layers.0", "model.layers.1"]
    assert {m["hookpoint"] for m in done.metrics} == {None, "model.layers.0", "model.layers.1"}
    assert done.document["model"]["identity"] == "planted-1"
    assert done.document["config"]["tasks"] == ["halluc"]


def test_the_same_call_again_reuses_saes_and_run(world, monkeypatch):
    first = small_run()
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*")}
    asked = world.lmm.n_forwards
    monkeypatch.setattr(training, "_train", None)
    again = small_run()
    assert again.path == first.path
    assert world.lmm.n_forwards == asked
    assert {file: file.stat().st_mtime_ns for file in again.path.rglob("*")} == before


def test_every_saes_l0_is_measured_and_no_more_than_its_k(world):
    saes = small_run().document["saes"]
    assert all(0 < sae["l0"] <= sae["k"] for sae in saes)


def test_another_layer_seed_or_option_is_another_run(world):
    paths = {
        small_run(layers=[1]).path,
        small_run(layers=[1], seed=1).path,
        small_run(layers=[1], limit=3).path,
        small_run(layers=[1], params={"halluc": {**SMALL["halluc"], "random": 1}}).path,
    }
    assert len(paths) == 4


def test_layers_are_the_papers_numbers_or_published_names(world):
    by_number, by_name = small_run(layers=[2]), small_run(layers=["model.layers.1"])
    assert hookpoints(by_number) == hookpoints(by_name) == ["model.layers.1"]
    assert by_number.path == by_name.path


def test_a_layer_beyond_the_depth_is_a_usage_error_that_names_the_depth(world):
    with pytest.raises(UsageError, match="1 to 2"):
        small_run(layers=[3])


def test_only_the_hookpoints_that_the_cache_lacks_are_trained(world, monkeypatch):
    small_run(layers=[1])
    trained, real = [], training._train

    def watched(lmm, provider, missing, *rest):
        trained.extend(h.name for h in missing)
        return real(lmm, provider, missing, *rest)

    monkeypatch.setattr(training, "_train", watched)
    small_run()
    assert trained == ["model.layers.1"]


def test_what_else_is_trained_beside_an_sae_does_not_change_it(world, tmp_path):
    points = [world.lmm.hookpoint(1), world.lmm.hookpoint(2)]
    recipe = DefaultRecipe(n_latents=16, n_tokens=4096, n_prompts=20)
    arguments = (SilentProgress(), recipe)
    stores = [ArtefactStore(tmp_path / name) for name in ("together", "alone")]
    together = trained_saes(world.lmm, world.provider, points, stores[0], *arguments)
    alone = trained_saes(world.lmm, world.provider, points[1:], stores[1], *arguments)
    assert together[1].identity == alone[0].identity


def test_an_interrupted_training_leaves_nothing_behind(world, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lmmsae_eval.sae.train.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_run()
    assert ArtefactStore(tmp_path / "cache").ls() == []


def given(folder, planted, d_model=None, name="model.layers.0"):
    sae = planted.sae.sae
    if d_model is not None:
        sae = TopK.random(8, d_model, 2, seed=0)
    save_sae(sae, folder / name)
    return folder


def test_given_saes_are_taken_as_they_are(world, tmp_path):
    folder = given(tmp_path / "mine", world)
    done = small_run(saes=folder)
    (sae,) = done.document["saes"]
    assert (sae["name"], sae["hookpoint"], sae["layer"]) == ("mine", "model.layers.0", 1)
    assert sae["weights_sha256"] == world.sae.sae.identity
    correction = next(m for m in done.metrics if (m["metric"], m["arm"]) == ("correction", "main"))
    assert correction["value"] == 1.0


def test_an_sae_of_another_width_is_a_usage_error(world, tmp_path):
    with pytest.raises(UsageError, match=r"d_model 32.*48"):
        small_run(saes=[given(tmp_path / "mine", world, d_model=32)])


def test_an_sae_beyond_the_models_depth_is_a_usage_error(world, tmp_path):
    with pytest.raises(UsageError, match="no layer"):
        small_run(saes=[given(tmp_path / "mine", world, name="model.layers.9")])


def test_a_missing_sae_folder_is_a_usage_error(world, tmp_path):
    with pytest.raises(UsageError, match="no SAE folder"):
        small_run(saes=[tmp_path / "nowhere"])


def test_given_saes_that_lack_the_wanted_layer_are_a_usage_error(world, tmp_path):
    with pytest.raises(UsageError, match=r"no SAE at model.layers.1 .*model.layers.0"):
        small_run(saes=given(tmp_path / "mine", world), layers=[2])


def test_folders_of_one_name_are_told_apart_by_their_parents(world, tmp_path):
    folders = [given(tmp_path / parent / "sae", world) for parent in ("a", "b")]
    assert [sae.name for sae in load_saes(world.lmm, folders)] == ["a/sae", "b/sae"]
    with pytest.raises(UsageError, match="twice"):
        load_saes(world.lmm, [folders[0], folders[0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["haluc"]}, "did you mean 'halluc'"),
        ({"tasks": []}, "no tasks"),
        ({"tasks": ["halluc"], "protocol": "loose"}, "no protocol 'loose'"),
        ({"tasks": ["halluc", "consistency"], "judge": "openai/gpt-4o"}, "OPENAI_API_KEY"),
        ({"tasks": ["halluc"], "model": "owner/name"}, "give --sae or --layers for owner/name"),
        ({"tasks": ["halluc"], "params": {"iou": {}}}, "not among the tasks"),
        ({"tasks": ["halluc"], "output_dir": "a-file/runs"}, "a-file"),
        ({"tasks": ["iou"], "roles": {"explainer": "openai/gpt-4o"}}, "OPENAI_API_KEY"),
        ({"tasks": ["iou"], "roles": {"refiner": "openai/gpt-4o"}}, "nothing to do"),
        ({"tasks": ["iou"], "explanations": "nowhere.json"}, "no JSON file of explanations"),
        (
            {"tasks": ["clip"], "explanations": "x", "roles": {"explainer": "soft-wpmi"}},
            "leave --explainer and the others out",
        ),
        ({"tasks": ["mono"], "protocol": "paper"}, "no protocol 'paper'; it has strict"),
    ],
)
def test_what_can_be_refused_is_refused_before_anything_is_loaded(
    world, tmp_path, monkeypatch, options, message
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(world.provider, "load_lmm", None, raising=False)
    (tmp_path / "a-file").touch()
    with pytest.raises(UsageError, match=message):
        run(**{"model": WORLD, **options})


def test_an_unknown_task_has_its_own_kind_of_error(world):
    with pytest.raises(UnknownNameError):
        run("haluc", model=WORLD)


def test_a_model_that_is_not_there_is_a_usage_error(world):
    with pytest.raises(UsageError, match="no model folder"):
        small_run(model="./nowhere", layers=[1])


@pytest.fixture
def unmeasured(monkeypatch):
    """L0 is measured on images, which the planted provider has not."""
    name = "lmmsae_eval.tasks.planning.measured_l0"
    monkeypatch.setattr(name, lambda subject, _: [None] * len(subject.main_saes))


@pytest.mark.usefixtures("unmeasured")
def test_tasks_that_ask_no_judge_need_no_key_and_are_the_same_run_with_one(world, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert small_run(judge="openai/gpt-4o").path == small_run().path


@pytest.mark.usefixtures("unmeasured")
def test_a_replayed_judge_counts_as_the_recorded_one_in_comparability_alone(world, tmp_path):
    from lmmsae_eval.harness.replay import ReplayChat
    from lmmsae_eval.harness.transcript import Transcript
    from lmmsae_eval.tasks.planning import Opened, plan
    from lmmsae_eval.tasks.request import chosen_tasks

    entry = {"request_sha256": "0", "requested": "openai/gpt-4o", "params": {}, "error": None}
    (tmp_path / "judge.jsonl").write_text(json.dumps(entry) + "\n")
    client = ReplayChat(tmp_path / "judge.jsonl")
    request = Request(["consistency"], [given(tmp_path / "mine", world)], model=WORLD)
    subject = open_subject(request, client, SilentProgress())
    opened = Opened(request, chosen_tasks(request), subject, client, Transcript())
    planned = plan(opened, tmp_path, SilentProgress())
    described = {"provider": "openai", "requested": "openai/gpt-4o", "params": {}}
    assert planned.tasks[0].comparability == {"judge": described}
    assert "file_sha256" in planned.identity["judge"]


@pytest.mark.usefixtures("unmeasured")
def test_explainers_that_no_task_needs_are_not_opened(world, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = small_run(roles={"explainer": "openai/gpt-4o"})
    assert asked.path == small_run().path


def test_a_change_of_the_trainers_own_values_is_another_key(world, monkeypatch):
    from dataclasses import replace

    from lmmsae_eval.sae import recipe

    def key():
        hookpoint = world.lmm.hookpoint(1)
        return training._key(world.lmm, world.provider, hookpoint, training.RECIPE)

    before = key()
    preset = recipe.PRESETS["small"]
    for change in ({"lr": 1e-3}, {"auxk_alpha": 0.0}, {"dead_after": 5}):
        other = replace(preset, recipe=replace(preset.recipe, **change))
        monkeypatch.setattr(recipe, "PRESETS", {"small": other})
        assert key() != before


def test_every_sae_gets_an_untrained_control_that_keeps_the_mean(world, tmp_path):
    request = Request(["halluc"], [given(tmp_path / "mine", world)], model=WORLD)
    subject = open_subject(request, None, SilentProgress())
    main, control = subject.saes
    assert (main.arm, control.arm) == ("main", "untrained")
    assert (control.name, control.hookpoint) == (main.name, main.hookpoint)
    assert control.identity != main.identity
    assert torch.equal(control.sae.b_dec, main.sae.b_dec)


PLANTED_KINDS = {
    "batch_topk": {"threshold": torch.tensor(0.5)},
    "matryoshka": {"threshold": torch.tensor(0.5), "sizes": (10, N_LATENTS)},
    "jump_relu": {"threshold": torch.full((N_LATENTS,), 0.5)},
    "gated": {"r_mag": torch.zeros(N_LATENTS), "b_mag": torch.zeros(N_LATENTS)},
}


def planted_sae(kind, world, k=2):
    """The true dictionary: what lies above 0.5 fires, with its whole strength."""
    rows, none = world.lmm.rows, torch.zeros(N_LATENTS)
    b_enc = none - 0.5 if kind == "gated" else none
    weights = rows, b_enc, rows, torch.zeros(rows.shape[1])
    return ARCHITECTURES[kind](*weights, k, **PLANTED_KINDS[kind])


def test_saes_of_every_architecture_with_the_same_latents_get_the_same_scores(world, tmp_path):
    found = {}
    for kind in PLANTED_KINDS:
        save_sae(planted_sae(kind, world), tmp_path / kind / "model.layers.0")
        done = small_run(saes=[tmp_path / kind])
        assert done.document["saes"][0]["architecture"] == kind
        rows = (m for m in done.metrics if m["arm"] == "main" and m["sae"] is not None)
        found[kind] = {(m["metric"], m["concept"]): m["value"] for m in rows}
        assert any(value for value in found[kind].values())
    for kind in PLANTED_KINDS:
        assert found[kind] == pytest.approx(found["batch_topk"], nan_ok=True), kind


def test_two_saes_at_one_hookpoint_have_a_control_each(world, tmp_path):
    for name, k in (("wide", 3), ("narrow", 1)):
        save_sae(planted_sae("batch_topk", world, k), tmp_path / name / "model.layers.0")
    request = Request(["halluc"], [tmp_path / "wide", tmp_path / "narrow"], model=WORLD)
    subject = open_subject(request, None, SilentProgress())
    assert [(sae.name, sae.arm, sae.sae.k) for sae in subject.saes] == [
        ("wide", "main", 3), ("narrow", "main", 1),
        ("wide", "untrained", 3), ("narrow", "untrained", 1),
    ]  # fmt: skip


def test_where_l0_is_free_the_control_has_the_measured_one(world, tmp_path):
    for kind, k in (("gated", 30), ("jump_relu", 0)):
        sae = planted_sae(kind, world, k)
        save_sae(sae, tmp_path / kind / "model.layers.0")
        request = Request(["halluc"], [tmp_path / kind], model=WORLD)
        subject = open_subject(request, None, SilentProgress())
        main, control = subject.saes
        # One spare latent on each image token, and the evidence on one of three in half the images.
        assert control.sae.k == 1
        assert main.sae.k == (k or 1)
        assert main.identity == sae.identity


@pytest.mark.usefixtures("unmeasured")
def test_any_part_of_the_samples_can_be_chosen(world):
    everything = [line["id"] for line in small_run(layers=[1]).lines("halluc")]
    for part in (everything[:1], everything[-1:], everything[3::7]):
        done = small_run(layers=[1], samples=part)
        assert done.status == "limited"
        assert [line["id"] for line in done.lines("halluc")] == part
        assert done.document["samples"] == part
