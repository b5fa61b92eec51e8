"""1,000 questions under four arms at one frozen strength: the layers below the hookpoint run once.

Prints processor seconds of the untouched model, the SAE, the steered model and a control, and how
much of a whole forward each later arm costs. Run as `python benchmarks/halluc_arms.py [--n 1000]`.
"""

from __future__ import annotations

import argparse
import time

from lmmsae_eval.harness.registry import TESTBEDS
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.tasks.hallucination.arms import Asked, Edit, Plan, standard_hooks
from lmmsae_eval.tasks.hallucination.asking import Asker
from lmmsae_eval.tasks.hallucination.memory import CHUNK
from lmmsae_eval.tasks.hallucination.questions import read_questions

ARMS = ("untouched", "reconstruction", "main", "random_00")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--layer", type=int, default=3, help="counted from 1")
    options = parser.parse_args()
    provider = TESTBEDS.get("testbed")()
    lmm = provider.load_lmm()
    questions = provider.questions("all")
    asked = read_questions(questions.records)[: options.n]
    hookpoint = lmm.hookpoint(options.layer)
    sae = TopK.random(2048, lmm.d_model, 16, seed=0)
    plan = Plan({}, Edit((1, 2, 3), 0.0), tuple(range(2048)))
    asker = Asker(lmm, questions)
    seconds = dict.fromkeys(ARMS, 0.0)
    for begin in range(0, len(asked), CHUNK):
        chunk = asked[begin : begin + CHUNK]
        for arm in ARMS:
            start = time.process_time()
            if arm == "untouched":
                asker.ask(chunk)
            else:
                batch = Asked(chunk, [plan] * len(chunk))
                hooks = standard_hooks(arm, sae, batch, batch.edits, 0)
                asker.ask(chunk, {hookpoint: hooks(range(len(chunk)))})
            seconds[arm] += time.process_time() - start
    for arm, spent in seconds.items():
        share = spent / seconds["untouched"]
        print(f"{arm:16} {spent:7.1f} s for {len(asked)} questions, {share:.2f} of untouched")
    print(f"{'all four':16} {sum(seconds.values()):7.1f} s")


if __name__ == "__main__":
    main()
