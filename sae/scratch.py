"""Memory that is lent again and again: pages that are new cost a CPU a twentieth of the encoder
product that is written there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_spare = threading.local()
"""`room`: each thread's own, or absent while it is lent."""


@contextmanager
def borrowed(n_values: int, like: Tensor) -> Iterator[Tensor]:
    """`(n_values,)` of anything, of the dtype and device of `like`. It is overwritten after it was
    given back. Who borrows while it is lent gets memory of their own.
    """
    room: Tensor = _spare.__dict__.pop("room", like.new_empty(0))
    if (room.dtype, room.device) != (like.dtype, like.device) or len(room) < n_values:
        with torch.inference_mode(False):  # made in it, nobody outside could write there
            room = like.new_empty(n_values)
    try:
        yield room[:n_values]
    finally:
        _spare.room = room
