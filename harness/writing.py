"""Writing files so that a reader, or a kill at any moment, never meets half of one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import IncompleteError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOENT,  # where no folder can be made, as under /proc
    errno.ENAMETOOLONG,
}


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turns the system's refusals to write into one line that names the next step."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise IncompleteError(
                f"no space left to write {path}; what was done is kept, "
                "free some space and type the same command again"
            ) from error
        if error.errno in _FORBIDDEN:
            raise UsageError(
                f"can't write to {path}: {error.strerror}; choose another folder"
            ) from error
        raise


def replace_bytes(path: Path, content: bytes) -> None:
    """Put a whole file in place at once: written beside it, synced, renamed."""
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def replace_json(path: Path, value: Any) -> None:
    """A JSON document, indented for people, put in place at once."""
    replace_bytes(
        path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def encode_line(value: Any) -> bytes:
    """One JSON line. Raises `ValueError` or `TypeError` on what isn't JSON, NaN included."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode()


def append_bytes(path: Path, content: bytes) -> None:
    """Add whole lines to a file, in one write. A torn tail that a kill left is cut off first."""
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_tail(path)
        # Unbuffered: when this returns, a kill of the process loses nothing.
        with path.open("ab", buffering=0) as file:
            view = memoryview(content)
            while view:
                view = view[file.write(view) or 0 :]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file. The last may be torn; other damage raises `UsageError`."""
    if not path.exists():
        return []
    *whole, torn = path.read_bytes().split(b"\n")
    del torn
    try:
        lines = [json.loads(line) for line in whole]
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); restore it or delete the run") from error
    if not all(isinstance(line, dict) for line in lines):
        raise UsageError(f"{path} is damaged (not a JSON object); restore it or delete the run")
    return lines


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays as JSON values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _cut_torn_tail(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
