"""What reading and splicing cost: `python benchmarks/capture.py [--model REF] [--json]`.

Work per unit: one forward of a batch that is stopped after the last of the hookpoints by a bare
torch hook. Each unit is timed right before and right after the measured forward, by processor time;
a row's figure is the median ratio, with a percentile bootstrap over pairs. `capture` reads the
stream at three layers. `splice` replaces the stream at the last of them by a TopK SAE's
reconstruction; `largest tensor` is the most numbers of any tensor that this makes, beside what
dense latents of all tokens would be.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any


def batch_of(lmm: Any, rows: int) -> Any:
    import numpy as np
    from lmmsae_eval.sae.lmm import Prompt
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, 96, 96, 3), dtype=np.uint8)
    return lmm.prepare([Prompt("is there a boat ?", Image.fromarray(image)) for image in pixels])


def bare(lmm: Any, batch: Any, last: Any) -> Callable[[], None]:
    """As by hand: transformers' forward, and a hook that raises."""
    import torch

    class Stop(Exception):
        pass

    def stop(module: Any, args: Any, output: Any) -> None:
        raise Stop

    block = lmm.model.get_submodule(last.module)

    def work() -> None:
        handle = block.register_forward_hook(stop)
        try:
            with torch.no_grad():
                lmm.model(**batch.inputs, use_cache=False)
        except Stop:
            pass
        finally:
            handle.remove()

    return work


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratios(work: Callable[[], object], unit: Callable[[], object], pairs: int) -> list[float]:
    timed(unit), timed(work)
    found = []
    for _ in range(pairs):
        before, measured, after = timed(unit), timed(work), timed(unit)
        found.append(2 * measured / (before + after))
    return found


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median with a 95 % percentile bootstrap."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return statistics.median(values), medians[50], medians[1949]


def largest_tensor(work: Callable[[], object]) -> int:
    """The most numbers of any tensor that an operator returns meanwhile."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            for one in result if isinstance(result, tuple | list) else (result,):
                if isinstance(one, Tensor):
                    self.most = max(self.most, one.untyped_storage().nbytes() // one.itemsize)
            return result

    with Watch() as watch:
        work()
    return watch.most


def measure(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    from lmmsae_eval.sae.load import load_lmm
    from lmmsae_eval.sae.residual import capture
    from lmmsae_eval.sae.steering import reconstruct
    from lmmsae_eval.sae.topk import TopK

    torch.set_num_threads(args.threads)
    lmm: Any = load_lmm(args.model)
    batch = batch_of(lmm, args.rows)
    points = [lmm.hookpoint(layer) for layer in args.layers]
    unit = bare(lmm, batch, points[-1])
    sae = TopK.random(args.latents, lmm.d_model, args.k, seed=0)
    x = capture(lmm, batch, points[-1:])[points[-1]]
    splice = reconstruct(sae, error=False)
    hooks = {points[-1]: splice}
    rows = {
        "capture, 3 layers": lambda: capture(lmm, batch, points),
        "splice, TopK SAE": lambda: capture(lmm, batch, points[-1:], hooks),
    }
    found: dict[str, Any] = {}
    for name, work in rows.items():
        batch.extra.clear()
        found[name] = interval(ratios(_fresh(work, batch), unit, args.pairs))
    dense = batch.kinds.numel() * args.latents
    with torch.no_grad():
        most = largest_tensor(lambda: splice(x, batch))
    return {"rows": found, "largest tensor": most, "dense latents": dense}


def _fresh(work: Callable[[], object], batch: Any) -> Callable[[], object]:
    """Without what an earlier forward of the same batch left to go on from."""

    def run() -> None:
        batch.extra.clear()
        work()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="testbed")
    parser.add_argument("--layers", type=lambda text: text.split(","), default=["2", "3", "4"])
    parser.add_argument("--rows", type=int, default=16, help="prompts in the batch")
    parser.add_argument("--latents", type=int, default=16384)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    found = measure(args)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"model={args.model} rows={args.rows} layers={','.join(args.layers)} pairs={args.pairs}")
    for name, (median, low, high) in found["rows"].items():
        print(f"{name:20s} {median:6.3f} of a bare forward [{low:.3f}, {high:.3f}]")
    share = found["largest tensor"] / found["dense latents"]
    print(f"largest tensor       {found['largest tensor']:,} numbers, {share:.2f} of dense latents")


if __name__ == "__main__":
    main()
