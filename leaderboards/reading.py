"""Reading what others wrote: bounded in size and depth, plain JSON, never outside of its folder."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .refusal import refusal

MAX_DOCUMENT = 16_000_000
"""Bytes of run.json, manifest.json or the index."""
MAX_FILE = 256_000_000
"""Bytes of one sample file or judge log, uncompressed."""
MAX_TOTAL = 768_000_000
"""Bytes of a submission, uncompressed."""
MAX_LINE = 2_000_000
"""Bytes of one sample."""
MAX_DEPTH = 16
"""Objects and lists within each other."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}")
"""A run's id or a SAE's slug: one folder name that leads nowhere else."""
TASK = re.compile(rf"{NAME.pattern}(/{NAME.pattern})?")
_CARRIED = re.compile(rf"run\.json|judge\.jsonl|samples/{NAME.pattern}\.jsonl")
_LEFT_OUT = re.compile(rf"(cards|plots)(/img)?/{NAME.pattern}|(calls|batches)\.jsonl")


def listed_files(manifest: Any) -> dict[str, str]:
    """Digests of the files that a submission carries. Refuses names that a run doesn't have."""
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or "run.json" not in files:
        raise refusal("LB002", "manifest.json lists no files; submit a folder that a run has made")
    for name, digest in files.items():
        if not (_CARRIED.fullmatch(name) or _LEFT_OUT.fullmatch(name)):
            raise refusal("LB005", f"manifest.json names {name!r}, which is no file of a run")
        if not isinstance(digest, str):
            raise refusal("LB002", f"manifest.json has no digest for {name!r}")
    return {name: digest for name, digest in files.items() if _CARRIED.fullmatch(name)}


def read_bytes(folder: Path, name: str, limit: int) -> bytes:
    """A file of a run or, compressed, of a submission. Refuses links, gaps and oversized files."""
    plain, packed = folder / name, folder / f"{name}.gz"
    file = packed if packed.exists() and not plain.exists() else plain
    if file.resolve() != folder.resolve() / file.relative_to(folder):
        raise refusal("LB005", f"{name} is a link; submit the files themselves")
    if not file.is_file():
        code = "LB001" if name in ("run.json", "manifest.json") else "LB007"
        raise refusal(code, f"{name} is missing in {folder}; submit the run's whole folder")
    content = _unpacked(file, limit) if file == packed else _bounded(file, limit)
    if len(content) > limit:
        raise refusal("LB003", f"{name} has more than {limit // 1_000_000} MB")
    return content


def parse(content: bytes, where: str) -> Any:
    """JSON with bounded depth and finite numbers."""
    try:
        value = json.loads(content.decode(), parse_constant=_reject, parse_float=_finite)
    except RecursionError as error:
        raise refusal("LB004", f"{where} is nested too deep") from error
    except OverflowError as error:
        raise refusal("LB004", f"{where} holds {error}, which is not a finite number") from error
    except ValueError as error:
        raise refusal("LB002", f"{where} is not JSON: {error}") from error
    # Whatever has fewer brackets than that can't be too deep: most lines need no second look.
    if content.count(b"{") + content.count(b"[") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise refusal("LB004", f"{where} is nested deeper than {MAX_DEPTH} levels")
    return value


def parse_lines(content: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """(where, value) of every JSON line. The last line must be whole, too: the run is complete."""
    if content and not content.endswith(b"\n"):
        raise refusal("LB002", f"{where} ends in the middle of a line")
    for i, line in enumerate(content.splitlines(), start=1):
        if len(line) > MAX_LINE:
            raise refusal("LB003", f"{where} line {i} has more than {MAX_LINE // 1_000_000} MB")
        yield f"{where} line {i}", parse(line, f"{where} line {i}")


def _bounded(file: Path, limit: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(limit + 1)


def _unpacked(file: Path, limit: int) -> bytes:
    """Never more than a byte over the limit, however small the archive of it is."""
    try:
        with gzip.open(file) as opened:
            return opened.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise refusal("LB007", f"{file.name} can't be unpacked: {error}") from error


def _reject(constant: str) -> float:
    raise OverflowError(constant)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise OverflowError(text)
    return value


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(child, levels - 1) for child in children)
