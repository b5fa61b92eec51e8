"""What scoring explanations costs once activations are cached: `python benchmarks/scoring.py`.

1,000 latents of an untrained SAE on the testbed, 5 held-out images each, exact masks. The passes
through the model and the explanations are made first and kept on disk, as a run keeps them; timed
is what a second run does: it reads them back, scores every sample and makes every row with its
interval. Seconds of processor time on one thread: the bar of 60 s is for two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BAR = 60.0
LATENTS = 1000


def subject(n_latents: int, k: int) -> Any:
    """The testbed's LMM with one SAE that has live latents enough."""
    import torch
    from lmmsae_eval.sae.topk import TopK, TrainedSae
    from lmmsae_eval.tasks.subject import Subject
    from lmmsae_eval.testbed.provider import Testbed

    world = Testbed()
    lmm = world.load_lmm()
    rows = torch.nn.functional.normalize(
        torch.randn(n_latents, lmm.d_model, generator=torch.Generator().manual_seed(0)), dim=1
    )
    zeros = torch.zeros(n_latents), torch.zeros(lmm.d_model)
    sae = TrainedSae("wide", lmm.hookpoint(3), TopK(rows, zeros[0], rows.clone(), zeros[1], k))
    return Subject(lmm, [sae], world)


def context(of: Any, root: Path, latents: int) -> Any:
    """A run's context on what is kept below `root`."""
    from lmmsae_eval.harness.artefacts import ArtefactStore
    from lmmsae_eval.harness.progress import SilentProgress
    from lmmsae_eval.harness.task import Context

    return Context(of, ArtefactStore(root), SilentProgress(), params={"latents_per_sae": latents})


def scored(of: Any, root: Path, latents: int, wanted: Callable[[Any], bool]) -> tuple[int, float]:
    """Samples scored, and seconds of processor time."""
    from lmmsae_eval.harness.results import line_document
    from lmmsae_eval.tasks.iou import Iou

    start = time.process_time()
    task, here = Iou(), context(of, root, latents)
    samples = [sample for sample in task.samples(here) if wanted(sample)]
    outcomes = task.evaluate(samples, here)
    pairs = zip(samples, outcomes, strict=True)
    task.aggregate([line_document(task.spec, "strict", *pair) for pair in pairs])
    return len(samples), time.process_time() - start


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=LATENTS)
    parser.add_argument("--width", type=int, default=6144)
    parser.add_argument("--k", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    of = subject(given.width, given.k)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scored(of, root, given.latents, lambda sample: True)
        arms: dict[str, Callable[[Any], bool]] = {
            "the score alone, 5 images a latent": lambda s: s.id.endswith("/main/top"),
            "all arms and both groups, CLIP too": lambda s: True,
        }
        for name, wanted in arms.items():
            n, seconds = scored(of, root, given.latents, wanted)
            each = f"{seconds / max(n, 1) * 1e3:.2f} ms each"
            print(f"{name}: {n:,} samples in {seconds:.1f} s of one core, {each}")
        print(f"the bar: {BAR:.0f} s for {LATENTS:,} latents x 5 images on 2 cores")


if __name__ == "__main__":
    main()
