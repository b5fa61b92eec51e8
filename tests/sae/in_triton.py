"""The Triton kernels without a GPU: a script for test_kernels.py.

TRITON_INTERPRET=1 python in_triton.py    run by the interpreter, which must be chosen before Triton
                                          is imported; tensors on the CPU say that they are on CUDA
python in_triton.py                       compiled for one
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from lmmsae_eval.sae import kernels
from lmmsae_eval.sae.sparse import BagsByRow, weighted_rows
from lmmsae_eval.sae.step import AuxK, forward, gradients
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.sae.twin import autograd_gradients
from torch import Tensor

Compared = tuple[str, Tensor, Tensor]


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def products(tokens: int, rows: int, k: int, width: int) -> Iterator[Compared]:
    """Against their dense formulas; half of the slots are used, and some rows by no token."""
    table, vectors = drawn(0, rows, width), drawn(1, tokens, width)
    indices = drawn(2, tokens, rows - 2).topk(k).indices
    weights = drawn(3, tokens, k).abs()
    used = weights > 0.6
    dense = torch.zeros(tokens, rows, dtype=torch.float64).scatter(1, indices, weights * used)
    bags = BagsByRow(indices, rows, used)
    of = f"{tokens} {rows} {k} {width}"
    yield f"decode {of}", weighted_rows(table, indices, weights * used), dense @ table
    yield f"sum {of}", bags.sum(bags.sorted(weights), vectors), dense.T @ vectors
    room = torch.full((rows, width), torch.nan, dtype=torch.float64)
    yield f"room {of}", bags.sum(bags.sorted(weights), vectors, room), dense.T @ vectors
    dots = (vectors @ table.T).gather(1, indices) * used
    yield f"dots {of}", bags.unsorted(bags.dots(table, vectors)).view_as(dots), dots


def steps(dtype: torch.dtype) -> Iterator[Compared]:
    """Gradients of whole steps against autograd's."""
    n, d, tokens = 24, 10, 48
    x = drawn(5, tokens, d, dtype=dtype)
    some = torch.arange(n) % 3 == 0
    for k, auxk, dead in (
        (1, None, some),
        (4, AuxK(1 / 32, 3), some),
        (n, AuxK(1.0, n), torch.ones(n, dtype=torch.bool)),
    ):
        rows = torch.nn.functional.normalize(drawn(6, n, d, dtype=dtype), dim=1)
        bias = 0.1 * drawn(7, n, dtype=dtype)
        sae = TopK(drawn(8, n, d, dtype=dtype), bias, rows, 0.3 * drawn(9, d, dtype=dtype), k)
        done = forward(sae, x, dead, auxk)
        ours = gradients(sae, x, done, auxk)
        with on_cuda(False):
            twin = autograd_gradients(sae, x, done, auxk)
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            yield f"step {dtype} k={k} {name}", getattr(ours, name), getattr(twin, name)


def differentiated() -> Iterator[Compared]:
    """Where autograd is to follow, torch's own product is taken."""
    table, indices = drawn(0, 9, 5).requires_grad_(), drawn(1, 7, 9).topk(3).indices
    weights = drawn(2, 7, 3)
    [found] = torch.autograd.grad(weighted_rows(table, indices, weights).sum(), table)
    [dense] = torch.autograd.grad(torch.einsum("tk,tkd->td", weights, table[indices]).sum(), table)
    yield "autograd", found, dense


def on_cuda(really: bool) -> Any:
    return patch.object(Tensor, "is_cuda", really)


@contextmanager
def counted(name: str) -> Iterator[list[int]]:
    calls: list[int] = []
    original = getattr(kernels, name)

    def call(*args: Any) -> Tensor:
        calls.append(1)
        return original(*args)

    with patch.object(kernels, name, call):
        yield calls


def interpreted() -> dict[str, Any]:
    cases = [(40, 30, 9, 300), (17, 12, 1, 128), (5, 9, 7, 1), (33, 300, 4, 20)]
    with on_cuda(True), counted("bag_sums") as sums, counted("pair_dots") as dots:
        compared = [case for sizes in cases for case in products(*sizes)]
        compared += [*steps(torch.float32), *steps(torch.float64), *differentiated()]
    apart = {
        name: ((mine - oracle).norm() / oracle.norm()).item() for name, mine, oracle in compared
    }
    calls = {"bag_sums": len(sums), "pair_dots": len(dots)}
    return {"apart": apart, "calls": calls}


def compiled() -> dict[str, Any]:
    """What Hopper would run, as text."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    found = {}
    for dtype, sums, index, columns in (
        ("fp32", "float32", "i32", 128),
        ("fp64", "float64", "i64", 1),
    ):
        data, ids, sizes = (
            "*" + dtype,
            "*" + index,
            {"COLUMNS": columns, "SUM": getattr(triton.language, sums)},
        )
        arguments = {
            "_bag_sums": [data, data, ids, ids, data, "i32", "i32", "i32"],
            "_pair_dots": [data, data, ids, data, ids, "i32", "i32"],
        }
        for name, types in arguments.items():
            kernel = getattr(kernels, name)
            fixed = {n: (sizes | {"PAIRS": 16})[n] for n in kernel.arg_names[len(types) :]}
            signature = dict(
                zip(kernel.arg_names, [*types, *["constexpr"] * len(fixed)], strict=True)
            )
            done = triton.compile(ASTSource(kernel, signature, fixed), GPUTarget("cuda", 90, 32))
            found[f"{name} {dtype}"] = done.asm["ptx"]
    return found


def main() -> None:
    json.dump(interpreted() if os.environ.get("TRITON_INTERPRET") else compiled(), sys.stdout)


if __name__ == "__main__":
    main()
