"""Where weights go and how precisely: what that needs, and what it makes of identity."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.load import load_lmm
from lmmsae_eval.sae.loading import Loading


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hides packages by name, whether or not they are installed."""
    hidden: set[str] = set()
    monkeypatch.setattr(
        "lmmsae_eval.sae.loading.find_spec",
        lambda name: None if name in hidden else find_spec("json"),
    )
    return hidden


@pytest.mark.parametrize("width", ["4bit", "8bit"])
def test_quantized_weights_need_bitsandbytes_and_say_so(no_package: set[str], width: Any) -> None:
    no_package.add("bitsandbytes")
    with pytest.raises(UsageError, match=f"loading in {width} needs bitsandbytes; pip install"):
        Loading(load_in=width).settings()


def test_spreading_over_devices_needs_accelerate(no_package: set[str]) -> None:
    no_package.add("accelerate")
    with pytest.raises(UsageError, match="needs accelerate; pip install accelerate"):
        Loading(device="auto").settings()


def test_a_map_from_modules_to_devices_is_passed_on(no_package: set[str]) -> None:
    devices = {"model.vision_tower": "cpu", "model.language_model": "cuda:0"}
    assert Loading(device=devices).settings()["device_map"] == devices


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dtype": "float8"}, "no dtype 'float8'; choose float32"),
        ({"load_in": "3bit"}, "can't load in '3bit'; choose 4bit or 8bit"),
        ({"device": "tpu-of-tomorrow"}, "no device 'tpu-of-tomorrow'; write cpu, cuda"),
    ],
)
def test_what_there_is_not_is_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        Loading(**asked).settings()
    assert "\n" not in str(error.value)


def test_an_embedded_model_is_loaded_in_one_way_only() -> None:
    with pytest.raises(UsageError, match="testbed is loaded in one way only"):
        load_lmm("testbed", dtype="bfloat16")


def test_identity_tells_apart_whatever_changes_an_output(tiny_lmm_folder: Path) -> None:
    plain = load_lmm(tiny_lmm_folder, device="cpu").identity
    same = load_lmm(tiny_lmm_folder, device="cpu", dtype="float32").identity
    assert same == plain
    half = load_lmm(tiny_lmm_folder, device="cpu", dtype=torch.bfloat16)
    assert half.identity == f"{plain}+bfloat16"
    base = load_lmm(tiny_lmm_folder, device="cpu", image_tokens="base")
    assert base.identity == f"{plain}+base"
