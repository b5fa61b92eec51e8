"""What a run was made with: versions, machine, device, and which commit of the harness."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__

_PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "pillow",
    "safetensors",
    "tokenizers",
    "openai",
)
_ROOT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, Any]:
    """JSON facts for `run.json`'s `env`. Imports nothing heavy: asks torch only if loaded."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: found for name in _PACKAGES if (found := package_version(name))},
        **_device(),
    }


def harness() -> dict[str, Any]:
    """The harness itself: version, and commit and dirtiness when it runs from a git checkout."""
    commit = _git("rev-parse", "HEAD") if (_ROOT / ".git").exists() else None
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None
    return {"name": "lmmsae-eval", "version": __version__, "commit": commit, "dirty": dirty}


def package_version(name: str) -> str | None:
    """The installed version of a distribution, without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    facts: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpu": None,
    }
    if torch.cuda.is_available():
        facts["gpu"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def _git(*arguments: str) -> str | None:
    """git's answer, or None where git is missing or refuses."""
    command = ["git", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
