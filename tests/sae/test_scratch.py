"""Kept memory is lent to one at a time, and what is made in it does not change."""

from __future__ import annotations

import threading

import pytest
import torch
from lmmsae_eval.sae import sae as sae_module
from lmmsae_eval.sae.scratch import borrowed
from lmmsae_eval.sae.topk import TopK
from torch import Tensor

LIKE = torch.zeros(1)


def address(n_values: int, like: Tensor = LIKE) -> int:
    with borrowed(n_values, like) as room:
        assert (len(room), room.dtype) == (n_values, like.dtype)
        return room.data_ptr()


def test_the_same_memory_is_lent_again_where_it_is_large_enough() -> None:
    first = address(1000)
    assert address(1000) == address(10) == first


def test_another_dtype_gets_its_own() -> None:
    address(10)
    address(10, LIKE.double())


def test_while_it_is_lent_others_get_memory_of_their_own() -> None:
    with borrowed(100, LIKE) as mine, borrowed(100, LIKE) as other:
        mine.fill_(1)
        other.fill_(2)
        assert mine.eq(1).all()


def test_what_was_lent_in_inference_mode_can_be_written_outside() -> None:
    with torch.inference_mode():
        address(3000)
    with borrowed(3000, LIKE) as room:
        room.fill_(1)


def test_threads_do_not_share_it() -> None:
    with borrowed(100, LIKE) as mine:
        own = mine.data_ptr()
    found: list[int] = []
    with borrowed(100, LIKE):
        thread = threading.Thread(target=lambda: found.append(address(100)))
        thread.start()
        thread.join()
    assert found != [own]


def test_latents_do_not_change_when_others_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two SAEs in turn, each in several parts: nothing that is returned lies in the buffer."""
    monkeypatch.setattr(sae_module, "_DENSE_VALUES", 7 * 40)
    one, other = (TopK.random(40, 12, 5, seed) for seed in (0, 1))
    x = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    fresh = one.select([one.pre_activations(x)], len(x), 5)
    found = one.encode(x)
    kept = [tensor.clone() for tensor in found]
    other.encode(-x)
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))
    assert torch.equal(found.values.sort().values, fresh.values.sort().values)
    parts = zip(one.dense_parts(x, kept=True), other.dense_parts(x, kept=True), strict=True)
    for mine, theirs in parts:
        assert mine.data_ptr() != theirs.data_ptr()
