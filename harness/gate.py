"""The gate: has a run become worse than its baseline? One rule says what is printed and the exit.

A number *drops* (`difference.is_drop`) when both hold:

1. it moved to its bad side by more than is allowed (`Allowed`: absolute, or a share of the
   baseline's; nothing by default), and
2. chance does not explain the move: its one-sided p against *no move at all*, corrected after Holm
   over all numbers of this gate, is at most `alpha`. Where samples can be paired the p is exact for
   a handful of flipped answers, where an interval by bootstrap is too narrow.

So over runs that differ by chance alone the gate alarms in at most `alpha` of them, however many
numbers it looks at. Too few clusters, or an interval on one side only, are no evidence: such a
number is untested, and a gate that can test none says so instead of passing. A number with neither
samples nor intervals has nothing to say for chance, and 1. alone decides.

Floors and coverage are thresholds without statistics. A run *fails* when any number has a problem.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import NotComparableError, RegressionError, UsageError
from .change import Row, moves
from .compare import unequal
from .correction import corrected
from .difference import Change, is_drop, worse_p
from .rules import OnMissing, Rules
from .snapshot import Snapshot

_UNTESTED = "too few clusters or no interval for a test"

Pair = tuple[Row | None, Row | None]
"""The rows of one number in the baseline and now."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One number, and what is wrong with it."""

    task: str
    metric: str
    sae: str | None
    hookpoint: str | None
    layer: int | None
    baseline: float | None
    now: float | None
    higher_is_better: bool | None
    n_ok: int
    n_total: int
    allowed: float | None = None
    floor: float | None = None
    change: Change | None = None
    p_holm: float | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether it could have failed by its value: by a test, or by a floor."""
        return self.p_holm is not None or (self.floor is not None and self.now is not None)

    @property
    def word(self) -> str:
        """`held`, or the problems."""
        return "; ".join(self.problems or self.warnings or ("held",))


@dataclass(frozen=True, slots=True)
class Gate:
    """All verdicts on a run."""

    run_id: str
    baseline_id: str | None
    alpha: float
    verdicts: Sequence[Verdict]
    notes: Sequence[str] = ()

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.problems]

    @property
    def summary(self) -> str:
        """The verdict in one line; it and the exit code come from `failed` alone."""
        where = f"against {self.baseline_id}" if self.baseline_id else "without a baseline"
        total = len(self.verdicts)
        if not self.failed:
            tested = sum(verdict.tested for verdict in self.verdicts)
            rest = f", {total - tested} not tested" if tested < total else ""
            return f"check passed: {tested} numbers held{rest} {where} (exit 0)"
        first = self.failed[0]
        more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
        return (
            f"check failed: {first.task} {first.metric}{_layer(first)} {first.word}{more}, "
            f"{len(self.failed)} of {total} numbers {where} (exit {RegressionError.exit_code})"
        )

    def raise_if_failed(self) -> None:
        """Raises `RegressionError` with the summary."""
        if self.failed:
            raise RegressionError(f"{self.summary}; mend it, or bless the run as the new baseline")

    def to_json(self) -> dict[str, Any]:
        verdicts = [{**asdict(verdict), "verdict": verdict.word} for verdict in self.verdicts]
        return {**asdict(self), "verdicts": verdicts, "passed": not self.failed}


def check(now: Snapshot, before: Snapshot | None, rules: Rules) -> Gate:
    """Hold a run against a baseline, or (None) against floors and coverage alone.

    Raises `NotComparableError` when task version, data, samples, model or judge differ, and
    `UsageError` for a rule about a metric that neither has, when no rule is about anything, or when
    nothing failed and nothing could.
    """
    notes = _comparable(now, before) if before else []
    rules.check_names([*now.metrics, *(before.metrics if before else ())])
    shown = now.headline | (before.headline if before else set())
    pairs = _pairs(now, before)
    found = {i: v for i, pair in enumerate(pairs) if (v := _verdict(pair, rules, shown))}
    if not found:
        raise UsageError("nothing to gate; name metrics with --max-drop or --min")
    if before is not None:
        _measure(found, pairs, before, now)
    verdicts = [_judged(verdict, rules) for verdict in _corrected(list(found.values()))]
    gate = Gate(now.run_id, before.run_id if before else None, rules.alpha, verdicts, notes)
    if not gate.failed and not any(verdict.tested for verdict in verdicts):
        raise UsageError(
            f"none of the {len(verdicts)} numbers can be tested: missing, {_UNTESTED}; "
            "evaluate more (see `lmmsae-eval power`), or give floors with --min"
        )
    return gate


def _measure(
    verdicts: dict[int, Verdict], pairs: Sequence[Pair], before: Snapshot, now: Snapshot
) -> None:
    """Add the change of every number that is gated by its drop and is on both sides."""
    places = [i for i, v in verdicts.items() if v.allowed is not None and v.now is not None]
    both = [(old, new) for old, new in (pairs[i] for i in places) if old and new]
    for i, moved in zip(places, moves(before, now, both), strict=True):
        verdicts[i] = replace(verdicts[i], change=moved)


def _comparable(now: Snapshot, before: Snapshot) -> list[str]:
    """What the run has beyond the baseline; raises on what differs."""
    common = [task for task in before.tasks if now.task(task["name"])]
    if not common:
        raise NotComparableError(f"{now.run_id} and the baseline {before.run_id} share no task")
    reasons = list(unequal("", before.comparability, now.comparability))
    for task in common:
        other = now.task(task["name"])
        assert other is not None
        reasons += unequal(f"{task['name']}: ", task["comparability"], other["comparability"])
    if reasons:
        raise NotComparableError(
            f"not comparable, baseline and now: {'; '.join(reasons)}; if that is meant, bless a "
            "new baseline"
        )
    extra = [task["name"] for task in now.tasks if before.task(task["name"]) is None]
    return [f"{name} is not in the baseline: its numbers have no drop" for name in extra]


def _pairs(now: Snapshot, before: Snapshot | None) -> list[Pair]:
    rows = [now.metrics, before.metrics if before else ()]
    # Where a layer has one SAE on either side, that is the one, whatever it is called.
    ambiguous = {place for side in rows for place in _several_saes(side)}
    of_now, of_before = ({_key(row, ambiguous): row for row in side} for side in rows)
    return [(of_before.get(key), of_now.get(key)) for key in {**of_before, **of_now}]


def _several_saes(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        place = _place(row)
        if place in seen:
            yield place
        seen.add(place)


def _place(row: Row) -> tuple[Any, ...]:
    return (row["task"], row["protocol"], row["hookpoint"], row["metric"])


def _key(row: Row, ambiguous: set[tuple[Any, ...]]) -> tuple[Any, ...]:
    place = _place(row)
    return (*place, row["sae"]) if place in ambiguous else place


def _verdict(pair: Pair, rules: Rules, shown: Collection[tuple[str, str]]) -> Verdict | None:
    """What is known before the samples are looked at. None: no rule is about this number."""
    old, new = pair
    row = new or old
    assert row is not None
    headline = (row["task"], row["metric"]) in shown
    allowed = rules.allowed(old, headline) if old else None
    floor = rules.floor(row, headline)
    if allowed is None and floor is None:
        return None
    return Verdict(
        **{key: row[key] for key in ("task", "metric", "sae", "hookpoint", "layer")},
        baseline=old["value"] if old else None,
        now=new["value"] if new else None,
        higher_is_better=row["higher_is_better"],
        n_ok=new["n_ok"] if new else 0,
        n_total=new["n_total"] if new else 0,
        allowed=allowed.of(old["value"]) if allowed and old else None,
        floor=floor,
        problems=tuple(_threshold_problems(new, floor, rules.min_coverage)),
    )


def _threshold_problems(row: Row | None, floor: float | None, least: float) -> Iterator[str]:
    if row is None or row["value"] is None:
        return
    if floor is not None and row["value"] < floor:
        yield f"is {row['value']:.4g}, below the minimum {floor:g}"
    coverage = row["n_ok"] / row["n_total"] if row["n_total"] else 0.0
    if coverage < least:
        yield f"has scores for {coverage:.0%} of its samples, below {least:.0%}"


def _corrected(verdicts: Sequence[Verdict]) -> Iterator[Verdict]:
    """With p corrected after Holm: the family is every tested number of this gate."""
    p_values = [_p(verdict) for verdict in verdicts]
    family = iter(corrected([p for p in p_values if p is not None]))
    for verdict, p in zip(verdicts, p_values, strict=True):
        yield verdict if p is None else replace(verdict, p_holm=next(family))


def _p(verdict: Verdict) -> float | None:
    if verdict.change is None or verdict.higher_is_better is None:
        return None
    return worse_p(verdict.change, verdict.higher_is_better)


def _judged(verdict: Verdict, rules: Rules) -> Verdict:
    if verdict.now is None:
        return _missing(verdict, rules.on_missing)
    if verdict.change is None or verdict.allowed is None or verdict.higher_is_better is None:
        return verdict
    dropped = is_drop(
        verdict.change,
        verdict.p_holm,
        higher_is_better=verdict.higher_is_better,
        alpha=rules.alpha,
        allowed=verdict.allowed,
    )
    if dropped:
        moved = abs(verdict.change.value)
        problem = f"dropped by {moved:.4g}, more than {verdict.allowed:.4g}"
        return replace(verdict, problems=(problem, *verdict.problems))
    few = verdict.p_holm is None
    return replace(verdict, warnings=(_UNTESTED,)) if few else verdict


def _missing(verdict: Verdict, on_missing: OnMissing) -> Verdict:
    if on_missing == "fail":
        return replace(verdict, problems=("is missing in the run",))
    return replace(verdict, warnings=("is missing in the run",) if on_missing == "warn" else ())


def _layer(verdict: Verdict) -> str:
    return f" at layer {verdict.layer}" if verdict.layer is not None else ""
