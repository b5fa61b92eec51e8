"""Where things are kept between processes, and files' digests, of which large ones are kept there.

Every floor may import it. A digest is known again by path, size and time of change.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

LARGE = 16 * 2**20
"""Bytes: reading less than that again takes no time."""
SETTLED_SECONDS = 2.0
"""A file may be changed again within its clock's tick: until then its digest isn't kept."""
_KIND = "digests"


def cache_root() -> Path:
    """`$LMMSAE_EVAL_CACHE`, or the platform's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("LMMSAE_EVAL_CACHE")
    return Path(chosen) if chosen else user_cache_path("lmmsae-eval")


def known_sha256(file: Path) -> str:
    """Hex digest of a file's bytes; a large file that hasn't changed isn't read again.

    For weights. What must notice that a file was tampered with reads it.
    """
    stat = file.stat()
    return _known(file.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _known(file: Path, size: int, mtime_ns: int) -> str:
    if size < LARGE:
        return _read(file)
    entry = _entry(file)
    about = {"path": str(file), "size": size, "mtime_ns": mtime_ns}
    if (digest := _kept(entry, about)) is None:
        digest = _read(file)
        if time.time() - mtime_ns / 1e9 > SETTLED_SECONDS:
            _keep(entry, about | {"sha256": digest})
    return digest


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry(file: Path) -> Path:
    """Laid out as every other thing in the cache, so that `cache ls` and `prune` see it."""
    return cache_root() / _KIND / hashlib.sha256(str(file).encode()).hexdigest() / "key.json"


def _kept(entry: Path, about: dict[str, object]) -> str | None:
    try:
        known = json.loads(entry.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or not about.items() <= known.items():
            return None
        with suppress(OSError):
            entry.touch()
        return str(known["sha256"])
    except (OSError, ValueError, KeyError):
        return None


def _keep(entry: Path, about: dict[str, object]) -> None:
    """A cache that can't be written only costs time."""
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        beside = entry.with_name(f".{os.getpid()}")
        beside.write_text(json.dumps(about), encoding="utf-8")
        beside.replace(entry)
