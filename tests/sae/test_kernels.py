"""The Triton kernels in Triton's interpreter, and compiled. They have never run on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.sae import sparse

SCRIPT = Path(__file__).parent / "in_triton.py"


def script(**environment: str) -> dict[str, Any]:
    if find_spec("triton") is None:
        pytest.skip("no Triton: pip install -c constraints.txt '.[triton]'")
    own = {key: value for key, value in os.environ.items() if not key.startswith("TRITON")}
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=own | environment
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    return script(TRITON_INTERPRET="1")


def test_kernels_compile_without_a_gpu_and_add_nothing_atomically(tmp_path: Path) -> None:
    compiled = script(TRITON_CACHE_DIR=str(tmp_path))
    assert len(compiled) == 4
    assert not any("atom" in ptx for ptx in compiled.values())


def test_kernels_give_the_dense_products_and_the_gradients_of_the_twin(
    interpreted: dict[str, Any],
) -> None:
    assert len(interpreted["apart"]) > 20
    for name, apart in interpreted["apart"].items():
        assert apart <= (1e-5 if "float32" in name else 1e-10), name


def test_on_cuda_kernels_are_taken_by_themselves(interpreted: dict[str, Any]) -> None:
    assert interpreted["calls"]["bag_sums"] > 30
    assert interpreted["calls"]["pair_dots"] > 8


def test_on_a_cpu_and_without_triton_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sparse._kernels(torch.zeros(1)) is None
    monkeypatch.setattr(sparse, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert sparse._kernels(torch.zeros(1)) is None
