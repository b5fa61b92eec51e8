"""Putting a batch of questions under one arm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arms import (
    SPLICED,
    STEERED_GLOBAL,
    UNTOUCHED,
    Hooks,
    standard_arms,
    standard_hooks,
    steering_hook,
)
from .bench import Bench
from .controls import DENSE, SHUFFLED, control_arms, control_hooks
from .decoding import PROMPT, VCD
from .questions import Question

if TYPE_CHECKING:
    from torch import Tensor

    from ...harness.task import Sample
    from ...sae.sae import TrainedSae
    from .arms import Asked, Edit
    from .asking import Reply
    from .options import Options

ALONE = (PROMPT, VCD)
"""Arms that need no SAE, run once beside the untouched model."""


def arms_alone(options: Options) -> list[str]:
    return [UNTOUCHED, *(ALONE if options.all_controls else ())]


def arms_at_sae(options: Options) -> list[str]:
    """All arms that are run at each SAE, in order."""
    controls = control_arms(options.matched) if options.all_controls else []
    return [*standard_arms(options.random), *controls]


def prefixed(saes: Sequence[TrainedSae]) -> list[tuple[str, TrainedSae]]:
    """Ids name the hookpoint and not the SAE, so that other SAEs there answer the same items."""
    seen: dict[str, int] = {}
    prefixed = []
    for sae in saes:
        name = sae.hookpoint.name
        number = seen[name] = seen.get(name, 0) + 1
        prefixed.append((name if number == 1 else f"{name}#{number}", sae))
    return prefixed


def same_arm(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples that go through the model together: one arm of one SAE."""
    groups: dict[tuple[str, str | None, str | None], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.arm, sample.sae, sample.hookpoint), []).append(sample)
    return list(groups.values())


def replies(
    bench: Bench, arm: str, trained: TrainedSae | None, questions: Sequence[Question]
) -> list[Reply]:
    """Replies to `questions` under one arm."""
    if trained is None:
        alone = arm in ALONE
        return (
            bench.baselines.replies(arm, questions) if alone else bench.asker.untouched(questions)
        )
    asked = bench.asked(trained, questions)
    edits = asked.everywhere if arm == STEERED_GLOBAL else asked.edits
    hooks = _hooks(bench, arm, trained, asked, edits)
    edited = [arm in SPLICED or bool(edit) for edit in edits]
    return bench.asker.steered(questions, trained.hookpoint, hooks, edited)


def _hooks(
    bench: Bench, arm: str, trained: TrainedSae, asked: Asked, edits: Sequence[Edit]
) -> Hooks:
    if arm == DENSE:
        return _dense(bench, trained, asked)
    if arm == SHUFFLED:
        return _shuffled(bench, trained, asked)
    if arm in control_arms(bench.options.matched):
        return control_hooks(arm, trained.sae, asked, bench.seed)
    return standard_hooks(arm, trained.sae, asked, edits, bench.seed)


def _dense(bench: Bench, trained: TrainedSae, asked: Asked) -> Hooks:
    import torch

    from ...sae.displacement import as_far

    along = torch.stack([bench.dense(trained, bench.fold(q)).of(q.topic) for q in asked.questions])
    edits = asked.edits
    return lambda rows: as_far(
        steering_hook(trained.sae, [edits[r] for r in rows]),
        along[list(rows)].to(trained.sae.W_dec),
    )


def _shuffled(bench: Bench, trained: TrainedSae, asked: Asked) -> Hooks:
    """What another question's edit added to that question's stream, added here."""
    from ...sae.displacement import added

    partners = _partners(bench, trained)
    donors = [partners.get(q.id, q) for q in asked.questions]
    deltas = _deltas(bench, trained, donors)
    return lambda rows: added([deltas[r] for r in rows])


def _partners(bench: Bench, trained: TrainedSae) -> dict[str, Question]:
    """For every edited question another edited one, in a ring whose order the seed gives."""
    asked = bench.asked(trained, bench.test)
    edited = [q for q, edit in zip(asked.questions, asked.edits, strict=True) if edit]
    ring = sorted(edited, key=lambda q: hashlib.sha256(f"{bench.seed}:{q.id}".encode()).digest())
    return {q.id: ring[(place + 1) % len(ring)] for place, q in enumerate(ring)}


def _deltas(bench: Bench, trained: TrainedSae, questions: Sequence[Question]) -> list[Tensor]:
    """`(tokens, d_model)` each: what the edit of a question adds at its own tokens."""
    from ...sae.residual import capture

    batch = bench.asker.batch(questions)
    x = capture(bench.asker.lmm, batch, [trained.hookpoint])[trained.hookpoint]
    delta = steering_hook(trained.sae, bench.asked(trained, questions).edits).delta(x, batch)
    return list(delta)
