"""One list of parsed answers, three named scorings of HallusionBench.

Harnesses that publish "HallusionBench" numbers differ in which records they ask, in what a reply
that is neither yes nor no is worth, and in what they report:

* `paper`: all 1,129 records; not knowing is right where there is no figure; every aggregate.
* `lmms_eval`: the 951 records with a figure; aAcc, fAcc, qAcc.
* `vlmevalkit`: the same 951; neither is wrong; the three and their mean, by category and
  subcategory too.

Answers are parsed here, where `paper` and `lmms_eval` ask a GPT judge: with replies that begin with
yes or no the two agree. `judging.py` asks one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from ..hallucination.benchmark import score
from ..hallucination.questions import NO_FIGURE, Record
from .diagnosis import diagnose, shares

Answer = str | None
Aggregates = Mapping[str, float | None]
ACCURACIES = ("aacc", "facc", "qacc")
OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Scored:
    """What one scoring makes of the answers."""

    scoring: str
    n: int
    unscorable: int
    """Answers that are neither yes nor no, however they were counted."""
    splits: Mapping[str, Aggregates]
    """`overall` and, in vlmevalkit, every category and subcategory."""
    note: str = ""

    @property
    def overall(self) -> Aggregates:
        return self.splits[OVERALL]


def score_by(name: str, records: Sequence[Record], answers: Sequence[Answer]) -> Scored:
    """Aggregates of `answers` (`yes`, `no`, None) by a named scoring. KeyError on another name."""
    return SCORINGS[name](records, answers)


def paper(
    records: Sequence[Record],
    answers: Sequence[Answer],
    same: Sequence[bool | None] | None = None,
) -> Scored:
    """Every published aggregate; `same` is what a judge said for the diagnosis."""
    found = asdict(score(records, answers))
    n = found.pop("n")
    causes = shares(diagnose(records, answers, same))
    diagnosis = {
        "language_hallucination": causes.language,
        "visual_illusion": causes.vision,
        "mixed": causes.mixed,
    }
    return Scored("paper", n, answers.count(None), {OVERALL: found | diagnosis})


def lmms_eval(records: Sequence[Record], answers: Sequence[Answer]) -> Scored:
    """As lmms-eval's `hallusion_bench_image` reports."""
    seen, said = _with_figure(records, answers)
    return Scored("lmms_eval", len(seen), said.count(None), {OVERALL: _accuracies(seen, said)})


def vlmevalkit(records: Sequence[Record], answers: Sequence[Answer]) -> Scored:
    """As VLMEvalKit's `HallusionBench` reports; its headline is the mean of the three."""
    seen, said = _with_figure(records, answers)
    groups: dict[str, list[int]] = {OVERALL: list(range(len(seen)))}
    for place, record in enumerate(seen):
        category = str(record["category"])
        for name in (category, f"{category}_{record['subcategory']}"):
            groups.setdefault(name, []).append(place)
    splits = {
        name: _with_mean(_accuracies([seen[i] for i in places], [said[i] for i in places]))
        for name, places in groups.items()
    }
    return replace(
        Scored("vlmevalkit", len(seen), said.count(None), splits),
        note="inferred from its code; no output file of it was scored",
    )


SCORINGS: Mapping[str, Callable[[Sequence[Record], Sequence[Answer]], Scored]] = {
    "paper": paper,
    "lmms_eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}


def _with_figure(
    records: Sequence[Record], answers: Sequence[Answer]
) -> tuple[list[Record], list[Answer]]:
    kept = [
        (record, answer)
        for record, answer in zip(records, answers, strict=True)
        if record["visual_input"] != NO_FIGURE
    ]
    return [record for record, _ in kept], [answer for _, answer in kept]


def _accuracies(records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, float | None]:
    found = score(records, answers)
    return {name: getattr(found, name) for name in ACCURACIES}


def _with_mean(accuracies: Mapping[str, float | None]) -> Aggregates:
    values = [value for value in accuracies.values() if value is not None]
    mean = sum(values) / len(values) if len(values) == len(ACCURACIES) else None
    return {**accuracies, "mean": mean}
