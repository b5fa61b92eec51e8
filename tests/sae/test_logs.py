"""Metrics reach wandb and TensorBoard through their own interfaces; without them, one line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.logs import open_log

LINE = {"step": 50, "hookpoint": "model.layers.1", "fvu": 0.25, "l0": 4.0}


class Recorder:
    """A stand-in for either library's run."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.calls: list[Any] = [(arguments, settings)]

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **settings: self.calls.append((name, arguments, settings))


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_library_that_is_not_installed_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("wandb", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"--log {name} needs {name}; pip install") as error:
        open_log(name, tmp_path, {})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_wandb_gets_the_recipe_and_numbers_named_by_hookpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Recorder] = []
    wandb = ModuleType("wandb")
    wandb.init = lambda **settings: made.append(Recorder(**settings)) or made[0]  # type: ignore[attr-defined, func-returns-value]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log = open_log("wandb", tmp_path / "mine", {"k": 4})
    log.add(LINE)
    log.close()
    started, logged, finished = made[0].calls
    assert started[1] == {"project": "lmmsae-eval", "name": "mine", "config": {"k": 4}}
    numbers = {"fvu/model.layers.1": 0.25, "l0/model.layers.1": 4.0}
    assert logged == ("log", (numbers,), {"step": 50})
    assert finished[0] == "finish"


def test_tensorboard_gets_a_scalar_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Recorder] = []
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = lambda folder: made.append(Recorder(folder)) or made[0]  # type: ignore[attr-defined, func-returns-value]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = open_log("tensorboard", tmp_path, {})
    log.add(LINE)
    log.close()
    assert made[0].calls == [
        ((str(tmp_path / "tensorboard"),), {}),
        ("add_scalar", ("fvu/model.layers.1", 0.25, 50), {}),
        ("add_scalar", ("l0/model.layers.1", 4.0, 50), {}),
        ("close", (), {}),
    ]


def test_without_a_name_nothing_is_imported_or_sent(tmp_path: Path) -> None:
    open_log(None, tmp_path, {}).add(LINE)
