"""Files that are whole or absent."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IncompleteError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors tells the number of what went wrong."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside `path` and rename, so that a half-written file is never seen under its name."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """The same for a safetensors file that is too large to be held in memory a second time.

    Raises `OSError` when the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file({name: x.contiguous() for name, x in tensors.items()}, partial, dict(header))
        partial.replace(path)
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        raise OSError(int(number[1]) if number else None, str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def told_in_one_line(path: Path) -> Iterator[None]:
    """A full disk as one `IncompleteError`, any other refusal to write as one `UsageError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"can't write {error.filename or path}: {reason}"
        if error.errno in _FULL:
            raise IncompleteError(f"{what}; free space and type the same command again") from error
        raise UsageError(f"{what}; choose another folder") from error
