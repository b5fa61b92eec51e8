"""How long `compare` of two large runs takes: `python benchmarks/compare.py [--json] [--unpaired]`.

Work per unit: two runs of 5,000 samples in each of 20 cells, every sample its own cluster, one
metric; 10,000 resamples for intervals and tests. Reading the runs from disk is in the figure.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lmmsae_eval.harness.compare import compare
from lmmsae_eval.harness.results import SCHEMA_VERSION
from lmmsae_eval.harness.rundir import RunDirectory

CELLS, SAMPLES, RESAMPLES = 20, 5_000, 10_000
METRIC = {"name": "score", "title": "Score", "headline": True, "higher_is_better": True}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--unpaired", action="store_true", help="other samples in the second run")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="in each cell")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            make_run(Path(folder) / name, seed, options.samples, name if options.unpaired else "")
            for seed, name in enumerate("ab")
        ]
        start, busy = time.perf_counter(), time.process_time()
        comparison = compare(*runs, by="layer", resamples=RESAMPLES)
        seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    assert comparison.family == CELLS
    figures = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
    if options.json:
        print(json.dumps({**figures, "cells": CELLS, "samples": options.samples}))
    else:
        print(f"compare  {seconds:.2f} s, of them {cpu:.2f} s at work")


def make_run(path: Path, seed: int, samples: int, prefix: str) -> Path:
    """A complete run as the runner would leave it, without running anything."""
    source = random.Random(seed)
    directory = RunDirectory(path)
    directory.append(
        "bench",
        (
            {
                "id": f"{prefix}{layer}/{i}",
                "task": "bench",
                "protocol": "strict",
                "sae": "sae",
                "hookpoint": f"model.layers.{layer}",
                "latent": None,
                "arm": "main",
                "concept": "object",
                "cluster": f"{prefix}{i}",
                "status": "ok",
                "scores": {"score": source.random()},
                "error": None,
                "detail": {},
            }
            for layer in range(CELLS)
            for i in range(samples)
        ),
    )
    task = {"name": "bench", "version": 1, "protocol": "strict", "metrics": [METRIC]}
    task["comparability"] = {"version": 1}
    document = {"schema_version": SCHEMA_VERSION, "run_id": path.name, "status": "complete"}
    directory.write_document(
        {**document, "tasks": [task], "metrics": [], "saes": [], "comparability": {}}
    )
    directory.seal()
    return path


if __name__ == "__main__":
    main()
