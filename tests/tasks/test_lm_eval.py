"""The bridge to lm-eval: hooks under its own model class, HallusionBench as its task."""

from __future__ import annotations

import json

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.formats import save_sae
from lmmsae_eval.sae.hf import TransformersLMM
from lmmsae_eval.sae.lmm import Prompt
from lmmsae_eval.sae.topk import TopK, TrainedSae
from lmmsae_eval.tasks.benchmarks.lm_eval_task import (
    TASK,
    aacc,
    doc_to_image,
    export_task,
    facc,
    process_results,
    qacc,
)
from lmmsae_eval.tasks.benchmarks.opening import open_questions
from lmmsae_eval.tasks.lm_eval import Splice, one_sae, spliced_model
from PIL import Image

LAYER = "model.layers.2"


def records():
    return [
        {
            "category": "VD", "subcategory": "map", "set_id": str(number), "figure_id": str(figure),
            "question_id": "0", "visual_input": str(1 + figure), "gt_answer": str(1 - figure),
            "question": "is there a boat ?", "filename": f"./VD/map/{number}_{figure}.png",
        }
        for number in range(2)
        for figure in range(2)
    ]  # fmt: skip


@pytest.fixture
def asked(tmp_path):
    for record in records():
        place = tmp_path / "pictures" / record["filename"]
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 96), (int(record["figure_id"]) * 200, 0, 0)).save(place)
    (tmp_path / "q.json").write_text(json.dumps(records()))
    return open_questions(str(tmp_path / "q.json"), str(tmp_path / "pictures"))


@pytest.fixture
def own_lmm(tiny_lmm_folder):
    """A model of its own: attached hooks must not reach other tests."""
    from lmmsae_eval.sae.load import load_lmm

    lmm = load_lmm(tiny_lmm_folder)
    assert isinstance(lmm, TransformersLMM)
    return lmm


def sae_at(lmm):
    return TrainedSae("own", lmm.hookpoint(LAYER), TopK.random(32, lmm.d_model, 4, seed=0))


def logits_of_anyone(lmm, prompts):
    """As another library would: the model is called, hooks are none of its business."""
    batch = lmm.prepare(prompts)
    with torch.no_grad():
        return lmm.model(**batch.inputs).logits[:, -1]


PROMPTS = [
    Prompt("is there a boat ?", Image.new("RGB", (96, 96), (9, 90, 9))),
    Prompt("what scene"),
]


@pytest.mark.parametrize("splice", [Splice(), Splice("steered", tuple(range(32)), -3.0)])
def test_attached_hooks_do_to_any_caller_what_a_forward_with_hooks_does(own_lmm, splice):
    sae = sae_at(own_lmm)
    hooks = {sae.hookpoint: splice.hook(sae)}
    with torch.no_grad():
        wanted = own_lmm.forward(own_lmm.prepare(PROMPTS), hooks)
    plain = logits_of_anyone(own_lmm, PROMPTS)
    detach = own_lmm.attach(hooks)
    torch.testing.assert_close(logits_of_anyone(own_lmm, PROMPTS), wanted)
    assert not torch.allclose(plain, wanted, atol=1e-4)
    detach()
    torch.testing.assert_close(logits_of_anyone(own_lmm, PROMPTS), plain)


def test_attached_hooks_act_while_another_library_generates_too(own_lmm):
    sae = sae_at(own_lmm)
    hooks = {sae.hookpoint: Splice().hook(sae)}
    wanted = own_lmm.generate(own_lmm.prepare(PROMPTS), 4, hooks)
    own_lmm.attach(hooks)
    assert own_lmm.generate(own_lmm.prepare(PROMPTS), 4) == wanted


@pytest.mark.parametrize(
    "splice", [Splice("steered"), Splice("steered", (99,)), Splice("ablated", (1,))]
)
def test_a_splice_that_can_not_be_is_refused(own_lmm, splice):
    with pytest.raises(UsageError, match="choose reconstruction"):
        splice.hook(sae_at(own_lmm))


def test_of_several_saes_one_must_be_chosen(own_lmm, tmp_path):
    for layer in (1, 2):
        sae = TopK.random(32, own_lmm.d_model, 4, seed=layer)
        save_sae(sae, tmp_path / "saes" / f"model.layers.{layer}")
    with pytest.raises(UsageError, match="choose one with layer="):
        one_sae(own_lmm, tmp_path / "saes", None)
    assert one_sae(own_lmm, tmp_path / "saes", 3).hookpoint.name == LAYER


def test_the_task_folder_holds_questions_with_figures_and_scores_as_lmms_eval(asked, tmp_path):
    file = export_task(asked, tmp_path / "task")
    rows = [json.loads(line) for line in (file.parent / "questions.jsonl").open()]
    assert len(rows) == 4
    assert doc_to_image(rows[1])[0].getpixel((0, 0)) == (200, 0, 0)
    items = [process_results(row, ["Yes."])["aacc"] for row in rows]
    assert (aacc(items), facc(items), qacc(items)) == (0.5, 0.5, 0.0)
    assert f"task: {TASK}" in file.read_text()


def test_questions_without_any_image_make_no_task(tmp_path):
    blind = [{**r, "visual_input": "0", "filename": None} for r in records()]
    (tmp_path / "blind.json").write_text(json.dumps(blind))
    with pytest.raises(UsageError, match="no question has an image"):
        export_task(open_questions(str(tmp_path / "blind.json")), tmp_path / "task")


@pytest.mark.slow
def test_lm_eval_runs_the_task_on_the_spliced_model_offline(
    asked, tiny_lmm_folder, tmp_path, monkeypatch
):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    pytest.importorskip("datasets", reason="the extra lm-eval is not installed")
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    export_task(asked, tmp_path / "task")
    save_sae(TopK.random(32, 64, 4, seed=0), tmp_path / "sae" / LAYER)
    model = spliced_model(
        tiny_lmm_folder, tmp_path / "sae", Splice(), device="cpu", dtype="float32", batch_size=2
    )
    manager = TaskManager(include_path=str(tmp_path / "task"), include_defaults=False)
    found = simple_evaluate(
        model=model, tasks=[TASK], task_manager=manager, apply_chat_template=True
    )
    results = found["results"][TASK]
    assert 0 <= results["aacc,none"] <= 1
    assert len(found["samples"][TASK]) == 4
