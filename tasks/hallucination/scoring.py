"""From stored answers to values with clusters: corrected, broken, discrimination, logit offsets.

Everything here is made of sample lines alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ...harness.task import Line
from .benchmark import NO, YES
from .questions import PRIOR_KINDS, Question


@dataclass(frozen=True, slots=True)
class Answered:
    """One question under one arm."""

    question: Question
    margin: float
    """logit(yes) - logit(no)."""
    answer: str | None
    """`yes`, `no`, None for neither."""

    @property
    def item(self) -> str:
        return self.question.id

    @property
    def right(self) -> bool:
        return self.answer is not None and (self.answer == YES) == self.question.gt


@dataclass(slots=True)
class Values:
    """Numbers whose mean is a metric, each with its image family."""

    numbers: list[float]
    clusters: list[str]
    n_total: int
    """How many there would be had every answer been yes or no."""

    @property
    def mean(self) -> float | None:
        return sum(self.numbers) / len(self.numbers) if self.numbers else None


def question_detail(question: Question) -> dict[str, str | bool | None]:
    """What of a question a sample line keeps: enough to score it without the question set."""
    detail = {
        "item": question.id,
        "visual_input": question.record["visual_input"],
        "gt": question.gt,
        "kind": question.kind,
        "topic": question.topic,
    }
    named = question.record.get("pair")
    return detail | {"pair": named} if named else detail


def read_answer(line: Line) -> Answered | None:
    """The answer of a sample line; None for one that broke."""
    if line["status"] == "error":
        return None
    detail = line["detail"]
    margin = line["scores"].get("m", detail.get("m"))
    return Answered(_question(detail), float(margin), detail.get("answer"))


def _question(detail: Mapping[str, str | bool | None]) -> Question:
    # Subcategories of other people's files may hold a slash, the numbers may not.
    category, _, rest = str(detail["item"]).partition("/")
    subcategory, set_id, figure_id, question_id = rest.rsplit("/", 3)
    record = {
        "category": category,
        "subcategory": subcategory,
        "set_id": set_id,
        "figure_id": figure_id,
        "question_id": question_id,
        "visual_input": _text(detail["visual_input"]),
        "gt_answer": "1" if detail["gt"] else "0",
        "kind": _text(detail["kind"]),
        "topic": _text(detail["topic"]),
        "pair": _text(detail.get("pair")),
    }
    return Question(record)


def _text(value: str | bool | None) -> str:
    return "" if value is None else str(value)


Answers = Mapping[str, Answered]
"""By item."""


def by_item(lines: Iterable[Line]) -> dict[str, Answered]:
    """Answers of one arm."""
    answers = (read_answer(line) for line in lines)
    return {a.item: a for a in answers if a is not None}


def _paired(
    base: Answers,
    arm: Answers,
    value: Callable[[Answered, Answered], float],
    keep: Callable[[Answered], bool] = lambda before: True,
) -> Values:
    """`value(before, after)` of the items that both answer with yes or no."""
    wanted = [before for before in base.values() if before.answer is not None and keep(before)]
    pairs = [
        (before, arm[before.item])
        for before in wanted
        if before.item in arm and arm[before.item].answer is not None
    ]
    families = [before.question.family for before, _ in pairs]
    return Values([value(before, after) for before, after in pairs], families, len(wanted))


def correction(base: Answers, arm: Answers) -> Values:
    """Share of wrong answers that are right under the arm."""
    return _paired(base, arm, lambda _, after: after.right, lambda before: not before.right)


def regression(base: Answers, arm: Answers) -> Values:
    """Share of right answers that are wrong under the arm."""
    return _paired(base, arm, lambda _, after: not after.right, lambda before: before.right)


def net(base: Answers, arm: Answers) -> Values:
    """acc1 - acc0 = (1 - acc0) * correction - acc0 * regression."""
    return _paired(base, arm, lambda before, after: float(after.right) - before.right)


def discordant(base: Answers, arm: Answers) -> tuple[int, int]:
    """How many answers were fixed, and how many broken."""
    changes = net(base, arm).numbers
    return sum(c > 0 for c in changes), sum(c < 0 for c in changes)


def accuracy(arm: Answers) -> Values:
    return _over(arm, lambda a: a.right)


def yes_rate(arm: Answers) -> Values:
    return _over(arm, lambda a: a.answer == YES)


def wrong_answers(arm: Answers, kind: str, said: str) -> Values:
    """Share answered `said` among the items of a kind whose true answer is the other one."""
    return _over(arm, lambda a: a.answer == said, lambda q: q.kind == kind and q.gt == (said == NO))


def _over(
    arm: Answers,
    value: Callable[[Answered], float],
    keep: Callable[[Question], bool] = lambda question: True,
) -> Values:
    kept = [a for a in arm.values() if keep(a.question)]
    said = [a for a in kept if a.answer is not None]
    return Values([value(a) for a in said], [a.question.family for a in said], len(kept))


def discrimination(arm: Answers) -> Values:
    """Per (true yes, true no) of one question pair: whether the margins are in order, ties half.

    Chance is .5. Adding a constant to every margin changes nothing.
    """
    pairs = list(_contrasts(arm))
    ordered = [_in_order(yes.margin, no.margin) for yes, no in pairs]
    return Values(ordered, [yes.question.family for yes, _ in pairs], len(pairs))


def discrimination_gain(base: Answers, arm: Answers) -> Values:
    """Pair by pair, how much better in order the arm's margins are than the untouched ones."""
    pairs = list(_contrasts(base))
    both = [(yes, no) for yes, no in pairs if yes.item in arm and no.item in arm]
    gains = [
        _in_order(arm[yes.item].margin, arm[no.item].margin) - _in_order(yes.margin, no.margin)
        for yes, no in both
    ]
    return Values(gains, [yes.question.family for yes, _ in both], len(pairs))


def _contrasts(arm: Answers) -> Iterator[tuple[Answered, Answered]]:
    """(true yes, true no) of one question pair, all of them."""
    pairs: dict[str, list[Answered]] = {}
    for answered in arm.values():
        pairs.setdefault(answered.question.pair, []).append(answered)
    for group in pairs.values():
        for yes in group:
            for no in group:
                if yes.question.gt and not no.question.gt:
                    yield yes, no


def _in_order(yes: float, no: float) -> float:
    return 0.5 if yes == no else float(yes > no)


def prior_items(arm: Answers) -> list[Answered]:
    """Items that a prior speaks about, both directions pooled; all items where none is marked."""
    marked = [a for a in arm.values() if a.question.kind in PRIOR_KINDS]
    return marked or list(arm.values())


def shifted(base: Answers, threshold: Callable[[Question], float]) -> dict[str, Answered]:
    """The untouched model with a logit offset: yes only above the threshold."""
    return {
        item: replace(
            a,
            margin=a.margin - threshold(a.question),
            answer=a.answer and (YES if a.margin > threshold(a.question) else NO),
        )
        for item, a in base.items()
    }


def matched_threshold(margins: Sequence[float], n_yes: int) -> float:
    """The threshold that lets `n_yes` of the margins say yes, or about as many with ties."""
    ordered = sorted(margins, reverse=True)
    if n_yes <= 0:
        return ordered[0] + 1.0 if ordered else 0.0
    if n_yes >= len(ordered):
        return ordered[-1] - 1.0
    return (ordered[n_yes - 1] + ordered[n_yes]) / 2


def best_threshold(answers: Sequence[Answered]) -> float:
    """The threshold with most right answers, the smallest move among equals. It knows the truth."""
    ordered = sorted(a.margin for a in answers)
    if not ordered:
        return 0.0
    between = [(low + high) / 2 for low, high in pairwise(ordered)]
    options = sorted([0.0, ordered[0] - 1.0, ordered[-1] + 1.0, *between], key=abs)
    return max(options, key=lambda t: sum((a.margin > t) == a.question.gt for a in answers))


def yes_matched_offset(base: Answers, arm: Answers) -> dict[str, Answered]:
    """The offset arm: the untouched model, shifted to the yes rate of `arm` on the same items."""
    common = [
        i
        for i, a in base.items()
        if a.answer is not None and i in arm and arm[i].answer is not None
    ]
    n_yes = sum(arm[i].answer == YES for i in common)
    threshold = matched_threshold([base[i].margin for i in common], n_yes)
    return shifted({i: base[i] for i in common}, lambda _: threshold)


def best_offset(base: Answers) -> dict[str, Answered]:
    """The best constant offset, chosen on these very items: what no constant can beat."""
    threshold = best_threshold([a for a in base.values() if a.answer is not None])
    return shifted(base, lambda _: threshold)


def best_topic_offset(base: Answers) -> dict[str, Answered]:
    """The best offset of each topic, chosen on these very items."""
    topics: dict[str, list[Answered]] = {}
    for a in base.values():
        if a.answer is not None:
            topics.setdefault(a.question.topic, []).append(a)
    thresholds = {topic: best_threshold(answers) for topic, answers in topics.items()}
    return shifted(base, lambda q: thresholds.get(q.topic, 0.0))
