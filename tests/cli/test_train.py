"""`train` and `ls saes`: SAEs from one's own model and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

Type = Callable[..., Result]

SMALL = ("--n-latents", "16", "--k", "2", "--n-tokens", "2000", "--progress", "none")


@pytest.fixture
def pictures(in_folder: Path) -> Path:
    folder = in_folder / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for i in range(4):
        name = f"deeper/{i}.png" if i % 2 else f"{i}.JPG"
        Image.new("RGB", (40 + i, 30), (60 * i, 90, 200 - 40 * i)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def _refused(result: Result, said: str) -> None:
    assert result.exit_code == 2, result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert said in error
    assert not list(Path("saes").glob("*/sae.safetensors"))


def test_one_sae_a_layer_is_trained_and_can_be_listed(
    type_command: Type, pictures: Path, tiny_lmm_folder: Path
) -> None:
    model = ("--model", tiny_lmm_folder, "--images", pictures)

    result = type_command("train", *model, "--layers", "2,model.layers.4", *SMALL)

    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["saes/model.layers.1", "saes/model.layers.4"]
    listed = json.loads(type_command("ls", "saes", "--json").stdout)
    assert [(sae["folder"], sae["latents"], sae["k"]) for sae in listed][:2] == [
        ("saes/model.layers.1", 16, 2),
        ("saes/model.layers.4", 16, 2),
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("batch_topk",),
        ("matryoshka", "--prefixes", "4,16"),
        ("jump_relu", "--penalty", "2"),
        ("gated", "--penalty", "0.1"),
    ],
    ids=lambda options: options[0],
)
def test_an_sae_of_any_architecture_is_trained_listed_and_pushed(
    options: tuple[str, ...], type_command: Type, pictures: Path, tiny_lmm_folder: Path
) -> None:
    model = ("--model", tiny_lmm_folder, "--images", pictures, "--layers", "2")

    result = type_command("train", *model, "--architecture", *options, *SMALL)

    assert result.exit_code == 0, result.output
    listed, *_ = json.loads(type_command("ls", "saes", "--json").stdout)
    assert (listed["architecture"], listed["latents"], listed["k"]) == (options[0], 16, 2)
    config = json.loads(Path("saes/config.json").read_text())
    assert config["architecture"] == options[0]
    assert config.get("prefixes") == ([4, 16] if options[0] == "matryoshka" else None)
    last = json.loads(Path("saes/metrics.jsonl").read_text().splitlines()[-1])
    assert last["l0"] > 0
    assert last["l0_image"] > 0
    assert type_command("push", "saes", "me/mine", "--dry-run").exit_code == 0
    assert f"| model.layers.1 | {options[0]} | 16 |" in Path("saes/README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--prefixes", "4,16"), "prefixes are of matryoshka, not of topk"),
        (("--architecture", "matryoshka", "--prefixes", "4,8"), "end with 16"),
        (("--architecture", "matryoshka", "--prefixes", "8,4,16"), "do not grow"),
        (("--architecture", "matryoshka", "--prefixes", "a"), "no list of whole numbers"),
        (("--architecture", "batch_topk", "--penalty", "1"), "not of batch_topk"),
    ],
)
def test_an_option_of_another_architecture_is_refused(
    options: tuple[str, ...],
    said: str,
    type_command: Type,
    pictures: Path,
    tiny_lmm_folder: Path,
) -> None:
    model = ("-m", tiny_lmm_folder, "-l", "2", "--images", pictures)

    _refused(type_command("train", *model, *SMALL, *options), said)


def test_an_empty_folder_of_images_is_refused(
    type_command: Type, in_folder: Path, tiny_lmm_folder: Path
) -> None:
    (in_folder / "empty").mkdir()

    result = type_command("train", "-m", tiny_lmm_folder, "-l", "2", "--images", "empty")

    _refused(result, "empty holds no image")


def test_a_missing_folder_of_images_is_refused(type_command: Type, tiny_lmm_folder: Path) -> None:
    result = type_command("train", "-m", tiny_lmm_folder, "-l", "2", "--images", "nowhere")

    _refused(result, "no folder of images at nowhere")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n torn", b"text"])
def test_an_unreadable_image_is_refused_by_its_name(
    content: bytes, type_command: Type, pictures: Path, tiny_lmm_folder: Path
) -> None:
    (pictures / "1broken.png").write_bytes(content)

    result = type_command(
        *("train", "-m", tiny_lmm_folder, "-l", "2", "--images", pictures, *SMALL)
    )

    _refused(result, "1broken.png")


def test_corrupt_weights_are_refused(
    type_command: Type, pictures: Path, tiny_lmm_folder: Path, in_folder: Path
) -> None:
    model = in_folder / "model"
    model.mkdir()
    for file in tiny_lmm_folder.iterdir():
        content = file.read_bytes()
        torn = content[: len(content) // 2] if file.suffix == ".safetensors" else content
        (model / file.name).write_bytes(torn)

    result = type_command("train", "-m", model, "-l", "2", "--images", pictures, *SMALL)

    _refused(result, "can't load a model from")


def test_a_layer_beyond_the_model_is_refused(
    type_command: Type, pictures: Path, tiny_lmm_folder: Path
) -> None:
    result = type_command(
        *("train", "-m", tiny_lmm_folder, "-l", "7", "--images", pictures, *SMALL)
    )

    _refused(result, "7 is no layer of")


def test_another_model_than_the_testbed_needs_images_and_layers(
    type_command: Type, pictures: Path, tiny_lmm_folder: Path
) -> None:
    without_images = type_command("train", "-m", tiny_lmm_folder, "-l", "2", *SMALL)
    without_layers = type_command("train", "-m", tiny_lmm_folder, "--images", pictures, *SMALL)

    _refused(without_images, "give --images and --layers")
    _refused(without_layers, "give --images and --layers")


def test_a_seed_below_0_is_a_wrong_option(type_command: Type) -> None:
    for words in (("train",), ("run", "-t", "dissect")):
        result = type_command(*words, "--seed", "-1")
        assert result.exit_code == 2
        assert "'--seed'" in result.stderr


def test_a_damaged_cfg_is_named_by_ls(type_command: Type, in_folder: Path) -> None:
    (in_folder / "saes" / "model.layers.1").mkdir(parents=True)
    (in_folder / "saes" / "model.layers.1" / "cfg.json").write_text("{}")

    result = type_command("ls", "saes")

    assert result.exit_code == 2
    assert "saes/model.layers.1/cfg.json is not the cfg of an SAE" in result.stderr


def test_a_killed_training_typed_again_goes_on(
    type_command: Type, pictures: Path, tiny_lmm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmmsae_eval.sae.step import TopKTrainer

    plain = ("--n-latents", "16", "--k", "2", "--n-tokens", "2000", "--progress", "plain")
    words = ("train", "-m", tiny_lmm_folder, "-l", "2", "--images", pictures, *plain)
    words += ("--batch-tokens", "500", "--checkpoint-every", "1")
    original, steps = TopKTrainer.step, 0

    def step(self: TopKTrainer, x: object, lr: float) -> object:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        return original(self, x, lr)  # type: ignore[arg-type]

    monkeypatch.setattr(TopKTrainer, "step", step)
    assert type_command(*words, "-o", "stopped").exit_code == 130
    result = type_command(*words, "-o", "stopped")
    type_command(*words, "-o", "whole")

    assert result.exit_code == 0, result.output
    assert "stopped: going on after 2 of 4 steps" in result.stderr
    assert " tokens/s" in result.stderr
    name = "model.layers.1/sae.safetensors"
    assert Path("stopped", name).read_bytes() == Path("whole", name).read_bytes()
    refused = type_command(*words, "-o", "whole", "--lr", "fast")
    assert refused.exit_code == 2
    assert "neither a number between 0 and 1 nor 'published'" in refused.stderr


def test_other_pictures_do_not_go_on_with_a_training_of_these(pictures: Path) -> None:
    from lmmsae_eval.sae.images import ImageFolder

    before = ImageFolder(pictures).identity
    assert ImageFolder(pictures).identity == before
    Image.new("RGB", (99, 99)).save(pictures / "0.JPG")
    assert ImageFolder(pictures).identity != before
