"""The lines of a ratings run, sorted by who said what of which item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ..harness.prediction_powered import Evidence
from ..harness.task import Line


@dataclass(slots=True)
class Item:
    """One item of the judged run."""

    cluster: str
    arm: str
    concept: str | None
    judge: int | None = None
    confidence: float | None = None
    """0 to 1, of the judge in `fits`; the verdict itself where it has no finer one."""
    people: dict[str, int] = field(default_factory=dict)
    """Answers at first sight by rater; who couldn't tell is not there."""
    shown: bool = False
    """Whether people were asked at all."""

    @property
    def majority(self) -> int | None:
        """What most people say; None for a tie and where nobody could tell."""
        balance = sum(2 * answer - 1 for answer in self.people.values())
        return None if balance == 0 else int(balance > 0)


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that was said, by item and by rater."""

    items: Mapping[str, Item]
    again: Mapping[str, Mapping[str, int]]
    """By rater: item -> what was answered the second time."""
    checks: Mapping[str, Sequence[int]]
    """By rater: 1 for each attention check that was answered right."""
    raters: Sequence[str]

    @property
    def rated(self) -> list[Item]:
        """Items that somebody has answered."""
        return [item for item in self.items.values() if item.people]

    @property
    def concepts(self) -> list[str]:
        return sorted({item.concept for item in self.rated if item.concept})

    def n_rated(self, arm: str) -> int:
        """Items that people were shown."""
        return sum(item.shown and item.arm == arm for item in self.items.values())

    def evidence(self, arm: str) -> Evidence:
        """People's mean and the judge's verdict on rated items, its verdicts on all others."""
        mine = [i for i in self.items.values() if i.arm == arm and i.judge is not None]
        rated = [item for item in mine if item.people]
        return Evidence(
            people=[fmean(item.people.values()) for item in rated],
            judged=[item.judge or 0 for item in rated],
            others=[item.judge or 0 for item in mine if not item.people],
        )

    def repeated(self, rater: str | None) -> list[int]:
        """1 for each item that a rater, or any, has answered twice alike, 0 for the others."""
        return [
            int(self.items[item].people[who] == answer)
            for who, answers in self.again.items()
            if rater in (None, who)
            for item, answer in answers.items()
            if who in self.items[item].people
        ]

    def attention(self, rater: str | None) -> list[int]:
        """1 for each attention check that a rater, or any, has answered right, 0 for the others."""
        chosen = [right for who, right in self.checks.items() if rater in (None, who)]
        return [answer for right in chosen for answer in right]


def collected(lines: Sequence[Line]) -> Answers:
    """Sort the lines of a ratings run."""
    items: dict[str, Item] = {}
    again: dict[str, dict[str, int]] = {}
    checks: dict[str, list[int]] = {}
    raters: dict[str, None] = {}
    for line in lines:
        detail = line["detail"]
        who, part, of = detail["rater"], detail["part"], detail["of"]
        if part == "judge":
            items[of] = Item(line["cluster"], line["arm"], line["concept"])
            items[of].confidence = detail.get("confidence")
    for line in lines:
        detail = line["detail"]
        who, part, of = detail["rater"], detail["part"], detail["of"]
        said = int(next(iter(line["scores"].values()))) if line["status"] == "ok" else None
        if part == "judge":
            items[of].judge = said
            continue
        raters[who] = None
        if part == "item":
            items[of].shown = True
            if said is not None:
                items[of].people[who] = said
        elif part == "again" and said is not None:
            again.setdefault(who, {})[of] = said
        elif part == "check":
            # A check without an answer is not passed.
            checks.setdefault(who, []).append(said or 0)
    return Answers(items, again, checks, list(raters))
