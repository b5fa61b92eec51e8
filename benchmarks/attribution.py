"""Passes and time of attributing an answer to all latents: `python benchmarks/attribution.py`.

Ours: one forward and one backward for all latents of all prompts. The paper's released code: for
each latent two forwards, through the SAE as it is and with the latent masked before the TopK, and a
backward from the second. Passes are counted at the model; the paper's way is timed on a few latents
and multiplied. Times are the processor's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any


class Passes:
    """Counts what goes through a model while it is entered."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.forwards = self.backwards = 0

    def __enter__(self) -> Passes:
        import torch

        def forward(module: Any, args: Any) -> None:
            self.forwards += 1

        self._handle = self.model.register_forward_pre_hook(forward)
        self._grad = torch.autograd.grad

        def backward(*args: Any, **kwargs: Any) -> Any:
            self.backwards += 1
            return self._grad(*args, **kwargs)

        torch.autograd.grad = backward  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        import torch

        self._handle.remove()
        torch.autograd.grad = self._grad


def through_the_sae(sae: Any, masked: int | None, kept: list[Any]) -> Callable[..., Any]:
    """The reconstruction in the place of the stream, one latent masked before the TopK."""
    from lmmsae_eval.sae.sae import Latents

    def hook(x: Any, batch: Any) -> Any:
        pre = sae.pre_activations(x.reshape(-1, sae.d_model))
        if masked is not None:
            pre[:, masked] = 0.0
        found = sae.choose(pre)
        decoded = sae.decode(Latents(found.indices.int(), found.values)).reshape(x.shape)
        kept.append(decoded.detach().requires_grad_())
        return kept[-1]

    return hook


def the_papers_way(lmm: Any, batch: Any, hookpoint: Any, sae: Any, latents: range) -> list[Any]:
    """Per latent `(batch, tokens)`: (clean - masked) . gradient at the masked reconstruction."""
    import torch
    from lmmsae_eval.sae.residual import yes_no

    found = []
    for latent in latents:
        kept: list[Any] = []
        batch.extra.clear()
        with torch.no_grad():
            yes_no(lmm, batch, {hookpoint: through_the_sae(sae, None, kept)})
        batch.extra.clear()
        with torch.enable_grad():
            metric = yes_no(lmm, batch, {hookpoint: through_the_sae(sae, latent, kept)})
        gradient = torch.autograd.grad(metric.sum(), kept[1])[0]
        found.append(((kept[0] - kept[1]) * gradient).sum(-1).detach())
    return found


def ours(lmm: Any, batch: Any, hookpoint: Any, sae: Any) -> Any:
    from lmmsae_eval.sae.attribution import attribute

    batch.extra.clear()
    return attribute(lmm, batch, hookpoint, sae)


def counted(lmm: Any, work: Callable[[], object]) -> dict[str, float]:
    with Passes(lmm.model) as passes:
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    return {"forwards": passes.forwards, "backwards": passes.backwards, "seconds": seconds}


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    import torch
    from lmmsae_eval.sae.lmm import Prompt
    from lmmsae_eval.sae.load import load_lmm
    from lmmsae_eval.sae.topk import TopK
    from PIL import Image

    torch.set_num_threads(args.threads)
    lmm: Any = load_lmm(args.model)
    image = Image.effect_noise((96, 96), 60).convert("RGB")
    batch = lmm.prepare([Prompt("is there a boat ?", image)])
    hookpoint = lmm.hookpoint(args.layer)
    sae = TopK.random(args.latents, lmm.d_model, args.k, seed=0)
    ours(lmm, batch, hookpoint, sae)  # warm up
    one_backward = min(
        (counted(lmm, lambda: ours(lmm, batch, hookpoint, sae)) for _ in range(args.repeats)),
        key=lambda found: found["seconds"],
    )
    few = range(args.sample)
    sampled = counted(lmm, lambda: the_papers_way(lmm, batch, hookpoint, sae, few))
    factor = args.latents / args.sample
    return {
        "ours": one_backward,
        "the paper's way": {name: value * factor for name, value in sampled.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="testbed")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--sample", type=int, default=4, help="latents timed the paper's way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    found = measure(args)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"model={args.model} layer={args.layer} latents={args.latents}, one prompt")
    for name, row in found.items():
        passes = f"{row['forwards']:,.0f} forwards {row['backwards']:,.0f} backwards"
        print(f"{name:16s} {passes:36s} {row['seconds']:10.2f} s")
    ratio = found["the paper's way"]["seconds"] / found["ours"]["seconds"]
    print(f"{ratio:,.0f} times as long")


if __name__ == "__main__":
    main()
