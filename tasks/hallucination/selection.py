"""Choosing features and strengths on dev families: attribution proposes, real forwards decide.

Per topic, because priors of different topics push in different directions; and once for all topics
together, for comparison. Nothing of the test families is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arms import NOTHING, Activity, Edit, Plan, steering_hook
from .asking import Asker
from .candidates import screen, shortlist
from .dev import Evidence, Item, gather_evidence, live_latents, signed, working_items
from .options import ATTRIBUTION, Options
from .questions import Question
from .strategies import propose

if TYPE_CHECKING:
    from ...harness.progress import Progress
    from ...sae.topk import TrainedSae

_PENALTIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 1e9)
_EVERYTHING = "*"
_FILE = "selection.json"


@dataclass(frozen=True, slots=True)
class DevScores:
    """How the chosen edits did on the items that they were chosen on."""

    correction: float | None
    regression: float | None
    net: float
    """Change of the share of right answers."""
    n_wrong: int
    n_right: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The choice for one SAE."""

    plan: Plan
    dev: DevScores
    dev_everywhere: DevScores
    n_screened: int
    """Edits judged by attribution alone."""
    n_tried: int
    """Edits that were run: the number of chances that the best had to look good by luck."""

    def save(self, folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Selection:
        stored = json.loads((folder / _FILE).read_text())
        plan = stored.pop("plan")
        edits = {topic: _edit(edit) for topic, edit in plan["by_topic"].items()}
        dev, everywhere = (DevScores(**stored.pop(key)) for key in ("dev", "dev_everywhere"))
        activity = {int(j): Activity(**known) for j, known in plan["activity"].items()}
        live = tuple(plan["live"])
        return cls(
            Plan(edits, _edit(plan["everywhere"]), live, activity), dev, everywhere, **stored
        )


def _edit(stored: Mapping[str, Any]) -> Edit:
    return Edit(tuple(stored["latents"]), stored["scale"])


@dataclass(frozen=True, slots=True)
class _Trial:
    """What one edit did to the items of one topic."""

    edit: Edit
    fixed: int
    broken: int
    soft: float
    """Mean signed margin, squashed: decides between edits that mend and break equally many."""


def select(
    asker: Asker, trained: TrainedSae, dev: Sequence[Question], options: Options, progress: Progress
) -> Selection:
    """Choose an edit per topic, and one for all, on the dev questions."""
    items = working_items(asker, dev, options, progress)
    topics = {question.topic: NOTHING for question in dev}
    if not any(item.wrong for item in items):
        nothing = DevScores(None, 0.0, 0.0, 0, len(items))
        return Selection(Plan(topics, NOTHING), nothing, nothing, 0, 0)
    by_gradient = options.strategy == ATTRIBUTION
    evidence = gather_evidence(asker, trained, items, progress, attribution=by_gradient)
    rows = _rows_by_topic(items)
    everything = {_EVERYTHING: list(range(len(items)))}
    search = _Search(asker, trained, items, evidence, options, progress)
    trials = search.run(rows, options.tried, "by topic")
    trials_everywhere = search.run(everything, options.tried_global, "for all topics")
    chosen = _choose(trials, items, options.max_regression)
    everywhere = _choose(trials_everywhere, items, options.max_regression)
    edits = topics | {topic: trial.edit for topic, trial in chosen.items()}
    plan = _plan(edits, everywhere[_EVERYTHING].edit, evidence)
    tried = sum(len(t) - 1 for t in [*trials.values(), *trials_everywhere.values()])
    dev_scores, dev_everywhere = (
        _dev_scores(list(best.values()), items) for best in (chosen, everywhere)
    )
    return Selection(plan, dev_scores, dev_everywhere, search.screened, tried)


def _plan(edits: Mapping[str, Edit], everywhere: Edit, evidence: Evidence) -> Plan:
    live = live_latents(evidence.rates)
    edited = (j for edit in (*edits.values(), everywhere) for j in edit.latents)
    return Plan(edits, everywhere, live, evidence.activity(sorted({*live, *edited})))


def _rows_by_topic(items: Sequence[Item]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        rows.setdefault(item.question.topic, []).append(row)
    return rows


@dataclass
class _Search:
    asker: Asker
    trained: TrainedSae
    items: Sequence[Item]
    evidence: Evidence
    options: Options
    progress: Progress
    screened: int = 0

    def run(
        self, rows: Mapping[str, Sequence[int]], tried: int, label: str
    ) -> dict[str, list[_Trial]]:
        """Trials per group of rows, the first being to do nothing."""
        edits = {group: self._candidates(members, tried) for group, members in rows.items()}
        trials = {group: [_trial(NOTHING, [], [])] for group in rows}
        step_label = f"halluc: strengths {label} at {self.trained.hookpoint.name}"
        with self.progress.step(step_label, tried) as step:
            for round_ in range(tried):
                now = {g: e[round_] for g, e in edits.items() if round_ < len(e)}
                after = self._margins(now, rows)
                for group, edit in now.items():
                    before = [self.items[row].margin for row in rows[group]]
                    trials[group].append(_trial(edit, before, [after[row] for row in rows[group]]))
                step.advance()
        return trials

    def _candidates(self, members: Sequence[int], tried: int) -> list[Edit]:
        ranked = self._ranked(members)
        self.screened += len(ranked)
        return shortlist(ranked, tried)

    def _ranked(self, members: Sequence[int]) -> list[tuple[float, Edit]]:
        import torch

        margin = torch.tensor([self.items[row].margin for row in members])
        rows = list(members)
        if self.evidence.gain is not None:
            return screen(self.evidence.gain[rows], margin, self.options.max_latents)
        active, strength = self.evidence.active[rows], self.evidence.strength[rows]
        return propose(self.options.strategy, active, strength, margin < 0)

    def _margins(
        self, edits: Mapping[str, Edit], rows: Mapping[str, Sequence[int]]
    ) -> dict[int, float]:
        """Signed margins of all rows of the groups that have an edit in this round."""
        of_row = {row: edit for group, edit in edits.items() for row in rows[group]}
        order = sorted(of_row)

        def ask(part: Sequence[int]) -> list[float]:
            hook = steering_hook(self.trained.sae, [of_row[row] for row in part])
            questions = [self.items[row].question for row in part]
            replies = self.asker.ask(questions, {self.trained.hookpoint: hook})
            return [signed(q, reply).margin for q, reply in zip(questions, replies, strict=True)]

        margins = [m for part in self.asker.memory.over(order, ask) for m in part]
        return dict(zip(order, margins, strict=True))


def _trial(edit: Edit, before: Sequence[float], after: Sequence[float]) -> _Trial:
    from math import tanh
    from statistics import fmean

    changes = [(b > 0, a > 0) for b, a in zip(before, after, strict=True)]
    fixed = sum(now and not then for then, now in changes)
    broken = sum(then and not now for then, now in changes)
    return _Trial(edit, fixed, broken, fmean(map(tanh, after)) if after else -1.0)


def _choose(
    trials: Mapping[str, Sequence[_Trial]], items: Sequence[Item], max_regression: float
) -> dict[str, _Trial]:
    """Most answers mended, few enough broken over all groups: the smallest penalty that does it."""
    allowed = max_regression * sum(not item.wrong for item in items)
    for penalty in _PENALTIES:
        chosen = {group: _best(of_group, penalty) for group, of_group in trials.items()}
        if sum(trial.broken for trial in chosen.values()) <= allowed:
            return chosen
    return {group: of_group[0] for group, of_group in trials.items()}


def _best(trials: Sequence[_Trial], penalty: float) -> _Trial:
    """Nothing is done unless something is won by it."""
    best = max(trials, key=lambda t: (t.fixed - penalty * t.broken, t.soft))
    return best if best.fixed - penalty * best.broken > 0 else trials[0]


def _dev_scores(chosen: Sequence[_Trial], items: Sequence[Item]) -> DevScores:
    n_wrong = sum(item.wrong for item in items)
    n_right = len(items) - n_wrong
    fixed, broken = (sum(getattr(t, key) for t in chosen) for key in ("fixed", "broken"))
    return DevScores(
        correction=fixed / n_wrong if n_wrong else None,
        regression=broken / n_right if n_right else None,
        net=(fixed - broken) / len(items),
        n_wrong=n_wrong,
        n_right=n_right,
    )
