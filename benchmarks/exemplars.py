"""What the exemplar search costs beside the model: `python benchmarks/exemplars.py`.

Synthetic latents at full width (2^17 latents, k = 256, 576 tokens an image) go through everything
that the search does with them; the encoder's product, which any use of an SAE pays, is left out.
Work per unit: floating-point operations that one fp32 matrix product does in the same time, timed
between the repetitions; the bar is 15 % of 12.5 GFLOP a token, an 8B model's forward to layer 25.
What is held (latents x images kept, with their tokens) and the peak memory of the process are told
as the number of images grows tenfold and tenfold again: what is held fills up and then stays.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any

import numpy as np

FORWARD = 12.5e9
BAR = 0.15
GROUP = 32


def synthetic(n_latents: int, k: int, tokens: int, rng: np.random.Generator) -> Any:
    """One image's latents: some fire everywhere, most almost never, as in a real SAE."""
    import torch
    from lmmsae_eval.sae.latents import Active

    # Popularity falls off with the rank; k distinct ones a token, near enough.
    ranks = (n_latents ** rng.random((tokens, k), np.float32)).astype(np.int64) - 1
    indices = (ranks * 40503 + 12345) % n_latents
    indices += np.arange(k) * n_latents // k
    values = rng.exponential(1.0, (tokens, k)).astype(np.float32)
    return Active(
        torch.arange(tokens).repeat_interleave(k),
        torch.from_numpy((indices % n_latents).astype(np.int32).ravel()),
        torch.from_numpy(values.ravel()),
    )


def matmul_rate(repetitions: int) -> float:
    """Operations a second of processor time."""
    import torch

    a, b = torch.randn(576, 4096), torch.randn(4096, 4096)
    a @ b
    start = time.process_time()
    for _ in range(repetitions):
        a @ b
    return 2 * 576 * 4096 * 4096 * repetitions / (time.process_time() - start)


class Search:
    """The search on synthetic images, a group at a time."""

    def __init__(self, n_latents: int, k: int, tokens: int) -> None:
        from lmmsae_eval.sae.places.views import grid_boxes
        from lmmsae_eval.tasks.features.surveying import Surveyor

        side = round(tokens**0.5)
        self._boxes = np.asarray(grid_boxes((0, 0, 336, 336), side, side).numpy(), np.float32)
        rng = np.random.default_rng(0)
        self._latents = [synthetic(n_latents, k, side * side, rng) for _ in range(GROUP)]
        self._surveyor = Surveyor(n_latents, seed=0)
        self._rng = rng
        self.images = 0
        self.tokens = side * side

    def group(self) -> float:
        """Processor seconds of one group of images."""
        from lmmsae_eval.tasks.features.selection import Entries
        from lmmsae_eval.tasks.features.stream import Chunk, positive

        start = time.process_time()
        images = np.arange(self.images, self.images + GROUP, dtype=np.int32)
        # The same latents in another order: other images are strongest for other latents.
        turned = [self._latents[(i * 7 + self.images // GROUP) % GROUP] for i in range(GROUP)]
        parts = [positive(int(i), one) for i, one in zip(images, turned, strict=True)]
        for part in parts:
            part.values[:] *= self._rng.uniform(0.5, 1.5)  # as strong as no image before
        entries = Entries.concatenate(parts)
        self._surveyor.add(Chunk(images, [self._boxes] * GROUP, [entries]), entries)
        self.images += GROUP
        return time.process_time() - start

    def held_mb(self) -> float:
        """All that would be stored if the search were stopped now."""
        return sum(array.nbytes for array in self._surveyor.arrays().values()) / 2**20


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latents", type=int, default=2**17)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=576)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--decades", type=int, default=1, help="times ten, so many times")
    options = parser.parse_args()
    search = Search(options.latents, options.k, options.tokens)
    stages = [options.images * 10**i for i in range(options.decades + 1)]
    rates, seconds = [matmul_rate(10)], []
    for stage in stages:
        while search.images < stage:
            seconds.append(search.group())
            if len(seconds) % 4 == 0:
                rates.append(matmul_rate(10))
        held = search.held_mb()
        print(
            f"{search.images:7} images    {held:10.0f} MiB held, {peak_mb():.0f} MiB at the peak",
            flush=True,
        )
    rate = statistics.median(rates)
    a_token = statistics.median(seconds) / (GROUP * search.tokens)
    share = a_token * rate / FORWARD
    print(f"matrix products   {rate / 1e9:10.1f} GFLOP/s of processor time")
    print(f"search            {1 / a_token:10.0f} tokens/s, encoder product left out")
    print(f"of the forward    {share:10.2%} (bar {BAR:.0%} of 12.5 GFLOP a token)")


if __name__ == "__main__":
    main()
