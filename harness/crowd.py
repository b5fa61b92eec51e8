"""Several calls at once, results in the order of the questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Sequence[T], at_once: int) -> list[R]:
    """`work` of every item, at most so many at a time.

    The first exception ends it: what has begun is awaited, so that its reply is recorded, and what
    has not begun is left.
    """
    if at_once == 1:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(at_once)
    try:
        return [future.result() for future in [pool.submit(work, item) for item in items]]
    finally:
        pool.shutdown(cancel_futures=True)
