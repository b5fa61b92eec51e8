"""Training metrics in somebody else's dashboard, through that somebody's own library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import UsageError

LogName = Literal["wandb", "tensorboard"]


class Log(Protocol):
    def add(self, line: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl."""

    def close(self) -> None: ...


class NoLog:
    """Goes nowhere."""

    def add(self, line: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def open_log(name: LogName | None, out: Path, config: Mapping[str, Any]) -> Log:
    """Raises `UsageError` in one line where the library is not installed."""
    if name is None:
        return NoLog()
    try:
        return _Wandb(out, config) if name == "wandb" else _TensorBoard(out)
    except ImportError as error:
        raise UsageError(
            f"--log {name} needs {name}; pip install {name}, or leave it out: metrics.jsonl has "
            "the same numbers"
        ) from error


class _Wandb:
    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(project="lmmsae-eval", name=out.name, config=dict(config))

    def add(self, line: Mapping[str, Any]) -> None:
        self._run.log(_named(line), step=line["step"])

    def close(self) -> None:
        self._run.finish()


class _TensorBoard:
    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"))

    def add(self, line: Mapping[str, Any]) -> None:
        for name, value in _named(line).items():
            self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()


def _named(line: Mapping[str, Any]) -> dict[str, float]:
    """`fvu/model.layers.24` and so on, as the published trainer names them."""
    where = line["hookpoint"]
    return {f"{k}/{where}": v for k, v in line.items() if k not in ("step", "hookpoint")}
