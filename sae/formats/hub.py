"""Checkpoints on the Hugging Face hub: `owner/name[/folder][@revision]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ...errors import UsageError

_REF = re.compile(
    r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<folder>[^@]+?))?/?(?:@(?P<revision>[^@]+))?"
)
_WANTED = ("*.json", "*.jsonl", "*.safetensors", "*.pt")
"""What any family may have written; model cards, plots and optimiser dumps stay there."""


class HubRef(NamedTuple):
    repo: str
    folder: str = ""
    revision: str | None = None


def parse(ref: str) -> HubRef | None:
    """None for what can't be a hub id, such as an absolute path."""
    match = _REF.fullmatch(ref)
    if match is None or ".." in ref.split("/"):
        return None
    return HubRef(match["repo"], match["folder"] or "", match["revision"])


def downloaded(ref: HubRef) -> Path:
    """The folder of a snapshot, from the hub or its cache. Raises `UsageError` in one line."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    patterns = [f"{ref.folder}/{name}" if ref.folder else name for name in _WANTED]
    try:
        root = Path(snapshot_download(ref.repo, revision=ref.revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UsageError(
            f"no SAE folder at {spelt(ref)}, and the hub didn't give it: {first_sentence(error)}"
        ) from error
    if not (root / ref.folder).exists():
        raise UsageError(f"{ref.repo} has no folder {ref.folder}; look at its files on the hub")
    return root / ref.folder


def spelt(ref: HubRef) -> str:
    folder = f"/{ref.folder}" if ref.folder else ""
    return f"{ref.repo}{folder}" + (f"@{ref.revision}" if ref.revision else "")


def first_sentence(error: Exception) -> str:
    """Hub errors run over many lines, with addresses and request ids."""
    return " ".join(str(error).split())[:200] or type(error).__name__
