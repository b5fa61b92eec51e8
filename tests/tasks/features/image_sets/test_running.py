"""`run --image-set`: the user's pictures from the option to the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import NotComparableError, UsageError
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.registry import TESTBEDS
from lmmsae_eval.sae.formats import save_sae
from lmmsae_eval.tasks.dryrun import dry_run
from lmmsae_eval.tasks.features import segment
from lmmsae_eval.tasks.images import own_images
from lmmsae_eval.tasks.request import Request, chosen_tasks
from lmmsae_eval.tasks.rescoring import rescore
from lmmsae_eval.tasks.session import run

WORLD = "tests/seeing"
N = 90


@pytest.fixture
def make(world: Any, study_context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of the perfect dictionary on the seeing LMM."""
    provider = study_context().subject.provider
    provider.load_lmm = world.SeeingLMM
    provider.questions = lambda split: None
    monkeypatch.setitem(TESTBEDS._registered, WORLD, lambda: provider)
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path / "cache"))
    perfect = world.perfect_sae()
    (tmp_path / "sae" / "layers.0").mkdir(parents=True)
    save_sae(perfect.sae, tmp_path / "sae" / "layers.0")
    clip = {"ref": str(provider.clip_folder()), "identity": "tiny"}

    def done(tasks: list[str], pictures: Path | str, **options: Any) -> Any:
        params = {task: {"clip": clip, **options.pop(task, {})} for task in tasks}
        return run(
            tasks,
            model=WORLD,
            saes=tmp_path / "sae",
            image_set=pictures,
            params=params,
            output_dir=tmp_path / "runs",
            **options,
        )

    return done


def value(done: Any, metric: str, arm: str = "main") -> float:
    (row,) = [
        m for m in done.metrics
        if (m["metric"], m["arm"], m["concept"], m["hookpoint"]) == (metric, arm, None, None)
    ]  # fmt: skip
    return float(row["value"])


def test_the_whole_job_on_a_folder_with_masks(make: Any, write: Any, tmp_path: Path) -> None:
    write.broden(tmp_path / "set", N)
    done = make(["iou"], tmp_path / "set")
    assert done.complete
    assert value(done, "iou_top") == pytest.approx(1)
    told = done.document["dataset"]["images"]
    assert told["n_search"] + told["n_score"] + told["near_duplicates"] == N
    assert told["labels"] == 8
    assert done.document["config"]["image_set"] == str(tmp_path / "set")
    cards = done.cards("iou")
    assert cards
    assert all(sum(card["histogram"]["counts"]) > 0 for card in cards)

    moved = shutil.copytree(tmp_path / "set", tmp_path / "elsewhere" / "set")
    again = make(["iou"], moved)
    for key in ("identity_sha256", "comparability"):
        assert again.document[key] == done.document[key]

    names = json.loads((moved / "names.json").read_text())
    names["object"][1] = "crate"
    (moved / "names.json").write_text(json.dumps(names))
    other = make(["iou"], moved)
    assert other.document["identity_sha256"] != done.document["identity_sha256"]


class Knowing:
    """A segmenter that sees the day in the drawn pictures, and nothing else."""

    identity = "knowing"

    def segment(self, images: Any, index: int, label: str) -> Any:
        by_day = np.asarray(images.image(index))[..., 1] // 20 % 2 == 0
        return by_day if label == "day" else np.zeros_like(by_day)


def test_pictures_without_masks_are_scored_by_the_segmenter(
    make: Any, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write.pictures(tmp_path / "photos", N)
    said = {f"model.layers.0_feature{i}": label for i, label in enumerate(("day", "night"))}
    (tmp_path / "said.json").write_text(json.dumps(said))
    refs: list[str] = []

    def opened(ref: str, united: bool) -> Knowing:
        refs.append(ref)
        return Knowing()

    monkeypatch.setattr(segment, "open_segmenter", opened)
    named = {"segmenter": {"ref": "a+b", "identity": "knowing"}}
    done = make(["iou"], tmp_path / "photos", iou=named, explanations=tmp_path / "said.json")
    assert done.complete
    assert refs == ["a+b"]
    scores = {
        line["latent"]: line["scores"]["iou_top"]
        for line in done.lines("iou")
        if line["arm"] == "main" and line["id"].endswith("/top")
    }
    assert scores == {0: pytest.approx(1), 1: 0.0}
    assert "no masks of their own" in done.document["dataset"]["note"]


def test_a_near_duplicate_bound_is_another_set(make: Any, write: Any, tmp_path: Path) -> None:
    write.broden(tmp_path / "set", N)
    found = [
        own_images(request, chosen_tasks(request), SilentProgress())
        for near in (0, 12)
        for request in [
            Request(
                ["core"],
                image_set=str(tmp_path / "set"),
                params={"core": {"near_duplicates": near}},
            )
        ]
    ]
    exact, loose = found
    assert exact is not None
    assert loose is not None
    assert exact.revision != loose.revision
    assert exact.n_dropped < loose.n_dropped


def test_a_run_on_own_pictures_is_judged_again_on_the_same_ones(
    make: Any, write: Any, tmp_path: Path
) -> None:
    write.broden(tmp_path / "set", N)
    done = make(["consistency"], tmp_path / "set")
    child = rescore(done, "labels", tmp_path / "runs")
    assert [line["scores"] for line in child.lines("consistency")] == [
        line["scores"] for line in done.lines("consistency")
    ]
    next(iter((tmp_path / "set").glob("*.parquet"))).unlink()
    write.broden(tmp_path / "set", N - 1)
    with pytest.raises(NotComparableError, match="was judged on images"):
        rescore(done, "labels", tmp_path / "others")


CLIP = {"clip": {"ref": "x", "identity": "x"}}
PLAIN: dict[str, Any] = {"image_set": "set"}


@pytest.mark.parametrize(
    ("tasks", "options", "said"),
    [
        (["iou"], {"label_names": Path("set/a.png")}, "--label-names are those of --image-set"),
        (["halluc"], PLAIN, "add one to --tasks"),
        (["iou"], PLAIN, "name one with --clip"),
        (["iou"], {**PLAIN, "params": {"iou": CLIP}}, "give --segmenter"),
        (["detect"], {**PLAIN, "params": {"detect": CLIP}}, "give --segmenter"),
        (["dissect"], PLAIN, "dissect is about; give a data set with masks"),
        (["consistency"], {**PLAIN, "params": {"consistency": CLIP}}, "give --judge"),
        (["clip"], {**PLAIN, "params": {"clip": CLIP}}, "give a chat model with --explainer"),
        (["core"], {"image_set": "nowhere"}, "a hub id is written dataset:owner/name"),
        (["core"], {"image_set": "empty"}, "holds no image"),
        (["core"], {"image_set": "one"}, "too few to hold a third out"),
        (["core"], {**PLAIN, "label_names": Path("set/a.png")}, "a folder of pictures alone"),
    ],
)
def test_what_is_missing_is_one_line_before_anything_is_loaded(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    tasks: list[str], options: dict[str, Any], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMMSAE_EVAL_CACHE", str(tmp_path / "cache"))
    for folder, names in (("set", "abcdefghij"), ("one", "a"), ("empty", "")):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            world.Drawn(20, 4).image(i).save(tmp_path / folder / f"{name}.png")
    request = Request(tasks, **options)
    with pytest.raises(UsageError, match=said) as error:
        own_images(request, chosen_tasks(request), SilentProgress())
    assert "\n" not in str(error.value)


def test_a_data_set_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, revision: str | None, split: str) -> None:
        assert (name, revision, split) == ("owner/name", "v1", "validation")
        raise datasets.exceptions.DatasetNotFoundError("it isn't\n on the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    request = Request(["core"], image_set="dataset:owner/name@v1:validation")
    with pytest.raises(UsageError, match="can't load the data set owner/name: it isn't on the hub"):
        own_images(request, chosen_tasks(request), SilentProgress())


def test_a_plan_refuses_pictures_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="no folder of pictures at nowhere"):
        dry_run(Request(["core"], image_set="nowhere"))
