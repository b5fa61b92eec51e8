"""What one training step of a TopK SAE costs, in encoder products: `python benchmarks/sae_step.py`.

Work per unit: one fp32 product of the encoder's shape, timed before and after each step, by
processor time (`cpu_gemms`) and by wall clock (`gemms`). Rows run interleaved, each in a process of
its own, so that `peak_rss_mb` is that row's. `--grid` shows how our step's cost grows with n, k and
the batch. A row is skipped, with the reason, where its package
is not installed: `--peers DIR` adds a folder to look in.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LR = 2e-4
BATCHES = 8
Step = Callable[[Any], object]


def ours(d: int, n: int, k: int) -> tuple[Step, Step]:
    from lmmsae_eval.sae.step import AuxK, TopKTrainer
    from lmmsae_eval.sae.topk import TopK

    sae = TopK.random(n, d, k, seed=0)
    trainer = TopKTrainer(sae, LR, AuxK(), dead_after=10**7)
    return (lambda x: trainer.step(x, LR)), sae.reconstruct


def sparsify(d: int, n: int, k: int) -> tuple[Step, Step]:
    import torch
    from sparsify import SparseCoder, SparseCoderConfig  # type: ignore[import-not-found]

    sae = SparseCoder(d, SparseCoderConfig(num_latents=n, k=k))
    adam = torch.optim.Adam(sae.parameters(), lr=LR)

    def step(x: Any) -> None:
        sae.set_decoder_norm_to_unit_norm()
        sae(x).fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()

    def reconstruct(x: Any) -> object:
        top = sae.encode(x)
        return sae.decode(top.top_acts, top.top_indices)

    return step, reconstruct


def dense(d: int, n: int, k: int) -> tuple[Step, Step]:
    """What a few lines of PyTorch do: dense latents, autograd."""
    import torch
    from torch.nn.functional import normalize

    W_dec = normalize(torch.randn(n, d), dim=1).requires_grad_()
    W_enc, b_enc, b_dec = W_dec.detach().clone(), torch.zeros(n), torch.zeros(d)
    learned = [tensor.requires_grad_() for tensor in (W_enc, W_dec, b_enc, b_dec)]
    adam = torch.optim.Adam(learned, lr=LR, fused=True)

    def reconstruct(x: Any) -> Any:
        pre = torch.relu((x - b_dec) @ W_enc.T + b_enc)
        top = pre.topk(k, sorted=False)
        return torch.zeros_like(pre).scatter(1, top.indices, top.values) @ W_dec + b_dec

    def step(x: Any) -> None:
        (reconstruct(x) - x).pow(2).sum(1).mean().backward()
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))

    return step, reconstruct


ROWS: dict[str, Callable[[int, int, int], tuple[Step, Step]]] = {
    "lmmsae-eval": ours,
    "sparsify": sparsify,
    "dense autograd": dense,
}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def peak_mb(own: int) -> float:
    """Peak resident memory, less the bytes that are the measurement's own."""
    unit = 1 if sys.platform == "darwin" else 1024
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - own) / 2**20


def work(row: str, args: argparse.Namespace) -> None:
    """One row in this process: a line on stdin asks for a step or a reconstruction, a line on
    stdout tells (cpu, wall) in products.
    """
    answers, sys.stdout = sys.stdout, sys.stderr  # what a peer prints at import is no answer
    import torch

    if args.peers:
        sys.path.append(str(args.peers))  # behind what is installed: the peer runs on our torch
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    step, reconstruct = ROWS[row](args.d, args.n, args.k)
    data = torch.randn(BATCHES, args.batch, args.d)
    ruler = torch.randn(args.n, args.d)

    def beside(job: Callable[[], object]) -> tuple[list[float], float]:
        before = timed(lambda: torch.mm(data[0], ruler.T))
        found = timed(job)
        after = timed(lambda: torch.mm(data[0], ruler.T))
        units = [2 * f / (b + a) for f, b, a in zip(found, before, after, strict=True)]
        return units, (before[0] + after[0]) / 2

    def reconstruction() -> None:
        with torch.no_grad():
            reconstruct(data[0])

    timed(lambda: torch.mm(data[0], ruler.T))
    print("ready", file=answers, flush=True)
    for number, line in enumerate(sys.stdin):
        x = data[number % BATCHES]
        job = (lambda x=x: step(x)) if line.strip() == "step" else reconstruction
        units, product = beside(job)
        own = ruler.numel() * ruler.element_size()
        answer = {"units": units, "product": product, "peak": peak_mb(own)}
        print(json.dumps(answer), file=answers, flush=True)


def start(row: str, args: argparse.Namespace) -> subprocess.Popen[str]:
    sizes = [f"--{name}={getattr(args, name)}" for name in ("d", "n", "k", "batch", "threads")]
    sizes += [f"--peers={args.peers}"] if args.peers else []
    return subprocess.Popen(
        [sys.executable, __file__, "--only", row, *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Threads that wait are not to be counted as work.
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


def ask(process: subprocess.Popen[str], what: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def started(args: argparse.Namespace) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    for row in args.rows:
        process = start(row, args)
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline().strip() == "ready":
            yield row, process
        else:
            reason = (process.stderr.read().strip().splitlines() or ["it ended"])[-1]
            print(f"{row:16s} skipped: {reason}", file=sys.stderr)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    running = dict(started(args))
    answers: dict[str, dict[str, list[Any]]] = {row: {} for row in running}
    for what, times in (("step", args.warmup + args.steps), ("reconstruct", args.steps)):
        for _ in range(times):
            for row, process in running.items():
                answers[row].setdefault(what, []).append(ask(process, what))
    for process in running.values():
        process.communicate()
    return [summary(row, found, args) for row, found in answers.items()]


def summary(row: str, found: dict[str, list[Any]], args: argparse.Namespace) -> dict[str, Any]:
    steps = [answer["units"] for answer in found["step"][args.warmup :]]
    inference = [answer["units"] for answer in found["reconstruct"]]
    return {
        "row": row,
        "cpu_gemms": round(statistics.median(cpu for cpu, _ in steps), 3),
        "gemms": round(statistics.median(wall for _, wall in steps), 3),
        "reconstruct_cpu_gemms": round(statistics.median(cpu for cpu, _ in inference), 3),
        "product_cpu_ms": round(1e3 * statistics.median(a["product"] for a in found["step"]), 1),
        "peak_rss_mb": round(found["step"][-1]["peak"]),
    }


def grid(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Our row, with one size after the other moved from where it stands."""
    moved = [{"n": 2**power} for power in range(12, 17)]
    moved += [{"k": k} for k in (8, 64, 256)] + [{"batch": batch} for batch in (512, 8192)]
    found = []
    for sizes in moved:
        point = argparse.Namespace(**{**vars(args), **sizes, "rows": ["lmmsae-eval"]})
        shape = {name: getattr(point, name) for name in ("n", "k", "batch")}
        for row in measure(point):
            per_token = row["cpu_gemms"] * row["product_cpu_ms"] * 1e3 / point.batch
            found.append({**shape, **row, "cpu_us_a_token": round(per_token)})
            print(as_table_row(found[-1]), file=sys.stderr)
    return found


GRID = ("n", "k", "batch", "product_cpu_ms", "cpu_gemms", "cpu_us_a_token", "peak_rss_mb")


def as_table_row(found: dict[str, Any]) -> str:
    return "| " + " | ".join(str(found[name]) for name in GRID) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--d", type=int, default=1024)
    parser.add_argument("--n", type=int, default=16384)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a row")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=[*ROWS])
    parser.add_argument("--peers", type=Path, help="a folder of installed peers")
    parser.add_argument("--grid", action="store_true", help="our step at other n, k and batch")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return work(args.only, args)
    rows = grid(args) if args.grid else measure(args)
    shape = {name: getattr(args, name) for name in ("d", "n", "k", "batch", "threads", "steps")}
    if args.json:
        print(json.dumps({**shape, "rows": rows}, indent=1))
        return None
    if args.grid:
        print("| " + " | ".join(GRID) + " |", "|--:" * len(GRID) + "|", sep="\n")
        print(*map(as_table_row, rows), sep="\n")
        return None
    print(" ".join(f"{name}={value}" for name, value in shape.items()))
    print(f"{'row':16s} {'cpu_gemms':>9s} {'gemms':>7s} {'reconstruct':>11s} {'peak MiB':>8s}")
    for r in sorted(rows, key=lambda row: float(row["cpu_gemms"])):
        cost = f"{r['cpu_gemms']:9.2f} {r['gemms']:7.2f} {r['reconstruct_cpu_gemms']:11.2f}"
        print(f"{r['row']:16s} {cost} {r['peak_rss_mb']:8d}")
    return None


if __name__ == "__main__":
    main()
