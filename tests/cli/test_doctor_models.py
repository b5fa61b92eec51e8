"""`doctor --model` on every family, on one that nobody has described, and on what is no such model:
what it has, or one line that says what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from lmmsae_eval.sae.lmm import Prompt
from lmmsae_eval.sae.load import load_lmm
from PIL import Image

Type = Callable[..., Result]
Save = Callable[[str], Path]
FAMILIES = (
    "llava llava_next llava_onevision qwen2_vl qwen2_5_vl qwen3_vl idefics3 smolvlm internvl "
    "paligemma gemma3 instructblip"
).split()


@pytest.fixture
def saved(tiny_families: Any, tmp_path: Path) -> Save:
    def save(name: str) -> Path:
        lmm = tiny_families.tiny(name)
        return write(tmp_path / name, lmm.model, lmm.processor)

    return save


def write(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_told_from_its_files(
    name: str, type_command: Type, saved: Save, tiny_families: Any
) -> None:
    family, folder = tiny_families.FAMILIES[name], saved(name)
    (folder / "model.safetensors").unlink()
    model = json.loads(type_command("doctor", "--json", "--model", folder).stdout)["model"]
    assert (model["layers"], model["d_model"]) == (3, 32)
    assert model["first block"].startswith("model.layers.0 (layer 1) at ")
    assert "is there a boat ?" in model["chat template"]
    assert model["chat template"].startswith("none, as published") == (family.turn is None)
    assert model["yes and no"].startswith("one vocabulary entry each")
    assert model["memory"]["fits"].startswith("yes")
    for size, layout in model["image tokens"].items():
        assert (" base (each" in layout) == family.places, size
        assert ("without a place" in layout) != family.places, size
        assert (" tile (each" in layout) == family.tiles, size


def test_the_list_of_families_is_whole(tiny_families: Any) -> None:
    assert list(tiny_families.FAMILIES) == FAMILIES


def test_a_family_that_nobody_has_described_works_without_places(
    type_command: Type, tiny_families: Any, tmp_path: Path
) -> None:
    """Idefics2: its resampler's tokens look nowhere in particular."""
    of = tiny_families.TABLE
    resampler = {"hidden_size": 32, "resampler_n_latents": 8, "resampler_depth": 1}
    heads = {"resampler_n_heads": 4, "resampler_head_dim": 8, "num_key_value_heads": 2}
    family = tiny_families.Family(
        classes="Idefics2",
        image_processor="Idefics2ImageProcessorPil",
        pixels={"size": {"shortest_edge": 32, "longest_edge": 64}, "do_image_splitting": False},
        text={"model_type": "mistral", **of["TEXT"]},
        vision={**of["TOWER"], "image_size": 64},
        special=["<image>", "<fake_token_around_image>", "<end_of_utterance>"],
        processor={"image_seq_len": 8},
        config={"perceiver_config": {**resampler, **heads}},
    )
    folder = write(tmp_path / "idefics2", *family.build())
    model = json.loads(type_command("doctor", "--json", "--model", folder).stdout)["model"]
    assert model["image tokens"]["640 x 480"] == "8: 8 without a place"
    lmm = load_lmm(folder, device="cpu")
    batch = lmm.prepare([Prompt("is there a boat ?", Image.new("RGB", (60, 40)))])
    assert len(lmm.generate(batch, 2)) == 1


def of_nothing(folder: Path, families: Any) -> None:
    folder.mkdir()


def of_text(folder: Path, families: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    words = families.tokenizer([])
    config = LlamaConfig(**{**families.TABLE["TEXT"], "vocab_size": len(words)})
    write(folder, LlamaForCausalLM(config), words)


def without_template(folder: Path, families: Any) -> None:
    lmm = families.tiny("llava")
    write(folder, lmm.model, lmm.processor)
    (folder / "chat_template.jinja").unlink()


def without_processor(folder: Path, families: Any) -> None:
    lmm = families.tiny("llava")
    write(folder, lmm.model, lmm.processor.tokenizer)


def with_encoder(folder: Path, families: Any) -> None:
    from transformers import InstructBlipConfig, T5Config

    t5 = T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4, vocab_size=30)
    lmm = families.tiny("instructblip")
    config = InstructBlipConfig(
        vision_config=lmm.model.config.vision_config.to_dict(),
        qformer_config=lmm.model.config.qformer_config.to_dict(),
        text_config=t5.to_dict(),
    )
    write(folder, config, lmm.processor)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (of_nothing, "can't load a model from"),
        (of_text, "is a 'llama', which does not answer in words about pictures"),
        (without_template, "has no chat template"),
        (without_processor, "Can't load image processor for"),
        (with_encoder, "encoder-decoder language model"),
    ],
)
def test_what_will_not_work_is_one_line_that_says_what_is_missing(
    make: Callable[[Path, Any], None],
    says: str,
    type_command: Type,
    tiny_families: Any,
    tmp_path: Path,
) -> None:
    make(tmp_path / "model", tiny_families)
    refused(type_command("doctor", "--model", tmp_path / "model"), says)


@pytest.mark.parametrize("ref", ["./nowhere", "gpt2", "a b", "testbad"])
def test_a_reference_that_means_nothing_is_one_line(ref: str, type_command: Type) -> None:
    refused(type_command("doctor", "--model", ref), "give a folder, a hub id")


def test_a_hub_that_can_not_be_reached_is_one_line_within_seconds(
    type_command: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(type_command("doctor", "--model", "owner/nothing-there"), "go online, or give a folder")


def refused(result: Result, says: str) -> None:
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout
