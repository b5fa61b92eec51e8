"""Is quality traded for speed? `python benchmarks/sae_quality.py [--peers DIR]`.

Our trainer, its autograd twin and sparsify learn from the same real activations of the testbed's
LMM in the same order, from the same start, by the same Adam and learning rate, without AuxK.
Printed for each are FVU and dead share on pictures that none of them saw, and FVU as a ratio to
sparsify's (bar: at most 1.005) and to the twin's (bar: equal). In float32 two trainings that differ
by rounding alone drift apart by some thousandths; `--double` shows that nothing else differs. A row
is skipped, with the reason, where its package is not installed: `--peers DIR` adds a folder to look
in.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lmmsae_eval.sae.recipe import Recipe, learning_rate
from lmmsae_eval.sae.step import TopKTrainer, variance
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.sae.twin import TwinTrainer
from torch import Tensor

HELD_OUT_SEED = 1000


class Row(NamedTuple):
    """An SAE in training: a step at a learning rate, and a reconstruction as latents and output."""

    step: Callable[[Tensor, float], object]
    reconstruct: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    """x to indices and values of the latents, and x'."""


def built_in(kind: type[TopKTrainer]) -> Callable[[TopK], Row]:
    def row(start: TopK) -> Row:
        trainer = kind(copy(start), 1e-3, None, dead_after=10**9)

        def reconstruct(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            latents = trainer.sae.encode(x)
            return *latents, trainer.sae.decode(latents)

        return Row(trainer.step, reconstruct)

    return row


def sparsify(start: TopK) -> Row:
    with contextlib.redirect_stdout(sys.stderr):  # it prints at import
        from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]

    config = SparseCoderConfig(num_latents=start.n_latents, k=start.k)
    sae = SparseCoder(start.d_model, config, dtype=start.W_enc.dtype)
    with torch.no_grad():
        for theirs, ours in (
            (sae.encoder.weight, start.W_enc),
            (sae.encoder.bias, start.b_enc),
            (sae.W_dec, start.W_dec),
            (sae.b_dec, start.b_dec),
        ):
            theirs.copy_(ours)
    adam = torch.optim.Adam(sae.parameters(), lr=1e-3)

    def step(x: Tensor, lr: float) -> None:
        adam.param_groups[0]["lr"] = lr
        sae.set_decoder_norm_to_unit_norm()
        sae(x).fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sae.set_decoder_norm_to_unit_norm()
        top = sae.encode(x)
        return top.top_indices, top.top_acts, sae.decode(top.top_acts, top.top_indices)

    return Row(step, reconstruct)


ROWS: dict[str, Callable[[TopK], Row]] = {
    "lmmsae-eval": built_in(TopKTrainer),
    "autograd twin": built_in(TwinTrainer),
    "sparsify": sparsify,
}


def copy(sae: TopK) -> TopK:
    return TopK(*(tensor.clone() for tensor in sae.tensors), sae.k)


def activations(layer: str, pictures: int, seed: int) -> Tensor:
    """All tokens of so many of the testbed's pictures, but padding and BOS."""
    from lmmsae_eval.sae.source import activations as chunks
    from lmmsae_eval.testbed.provider import Testbed

    testbed = Testbed()
    lmm = testbed.load_lmm()
    hookpoint = lmm.hookpoint(layer)
    prompts = list(testbed.sae_training_prompts(pictures, seed))
    return torch.cat([c.activations[hookpoint] for c in chunks(lmm, prompts, [hookpoint])])


def batches(x: Tensor, size: int, steps: int, seed: int) -> Iterable[Tensor]:
    """The same for every row: passes over x, each in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.zeros(0, dtype=torch.int64)
    for _ in range(steps):
        if len(left) < size:
            left = torch.randperm(len(x), generator=generator)
        yield x[left[:size]]
        left = left[size:]


@torch.no_grad()
def measured(row: Row, x: Tensor, n_latents: int) -> tuple[float, float]:
    """FVU and dead share."""
    indices, values, decoded = row.reconstruct(x)
    alive = torch.zeros(n_latents, dtype=torch.bool)
    alive[indices[values > 0].long()] = True
    fvu = ((decoded - x).pow(2).sum() / variance(x)).item()
    return fvu, 1 - alive.float().mean().item()


def learn(name: str, seed: int, x: Tensor, held_out: Tensor, args: argparse.Namespace) -> Any:
    start = TopK.random(args.n, x.shape[1], args.k, seed, x[: args.batch].mean(0))
    row = ROWS[name](start)
    recipe = Recipe(steps=args.steps, lr=args.lr)
    for number, batch in enumerate(batches(x, args.batch, args.steps, seed)):
        row.step(batch, learning_rate(recipe, number))
    fvu, dead = measured(row, held_out, args.n)
    return {"row": name, "seed": seed, "fvu": fvu, "dead": dead}


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds; ratios are seed by seed."""
    of = {(one["row"], one["seed"]): one for one in found}
    names = list(dict.fromkeys(one["row"] for one in found))
    seeds = list(dict.fromkeys(one["seed"] for one in found))

    def ratio(name: str, to: str) -> float | None:
        if to not in names:
            return None
        return statistics.fmean(of[name, s]["fvu"] / of[to, s]["fvu"] for s in seeds)

    return [
        {
            "row": name,
            "fvu": statistics.fmean(of[name, s]["fvu"] for s in seeds),
            "dead": statistics.fmean(of[name, s]["dead"] for s in seeds),
            "to_sparsify": ratio(name, "sparsify"),
            "to_twin": ratio(name, "autograd twin"),
        }
        for name in names
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layer", default="model.layers.2")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--double", action="store_true", help="learn in float64: less chaos")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=[*ROWS])
    parser.add_argument("--peers", type=Path, help="a folder of installed peers")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if args.peers:
        sys.path.append(str(args.peers))  # behind what is installed: the peer runs on our torch
    x = activations(args.layer, args.pictures, 0)
    held_out = activations(args.layer, max(1, args.pictures // 8), HELD_OUT_SEED)
    if args.double:
        x, held_out = x.double(), held_out.double()
    found = []
    for name in args.rows:
        try:
            found += [learn(name, seed, x, held_out, args) for seed in range(args.seeds)]
        except ImportError as error:
            print(f"{name:14s} skipped: {error}", file=sys.stderr)
    shape = {name: getattr(args, name) for name in ("n", "k", "batch", "steps", "lr", "seeds")}
    shape |= {"d": x.shape[1], "tokens": len(x), "held_out": len(held_out)}
    rows = summary(found)
    if args.json:
        print(json.dumps({**shape, "rows": rows, "runs": found}, indent=1))
        return
    print(" ".join(f"{name}={value}" for name, value in shape.items()))
    print(f"{'row':14s} {'FVU':>9s} {'dead':>7s} {'to sparsify':>11s} {'to twin':>9s}")
    for r in rows:
        ratios = [f"{r[to]:.5f}" if r[to] else "-" for to in ("to_sparsify", "to_twin")]
        print(f"{r['row']:14s} {r['fvu']:9.5f} {r['dead']:7.4f} {ratios[0]:>11s} {ratios[1]:>9s}")


if __name__ == "__main__":
    main()
