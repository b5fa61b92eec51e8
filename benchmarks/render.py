"""How many pictures the testbed's world draws a second on one core: `python benchmarks/render.py`.

Work per unit: one picture is 96 x 96 pixels with six exact label maps, then its patch coverage.
"""

from __future__ import annotations

import time

import numpy as np
from lmmsae_eval.testbed.world.render import coverage, render
from lmmsae_eval.testbed.world.scene import random_scene

N = 2000


def main() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(N)]
    start = time.process_time()
    pictures = [render(scene) for scene in scenes]
    drawn = time.process_time()
    for picture in pictures:
        coverage(picture.maps)
    covered = time.process_time()
    print(f"render          {N / (drawn - start):7.0f} images/s")
    print(f"render + cover  {N / (covered - start):7.0f} images/s")


if __name__ == "__main__":
    main()
