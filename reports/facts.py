"""What a run is: model, SAEs, judge, data, versions, and what its numbers can't say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..harness.rundir import Run
from .table import MISSING, ScoreRow

_NAMES = ("name", "id", "requested", "provider", "ref")
_NOTES = ("note", "notes")
_HEADINGS = {"l0": "L0", "fvu": "FVU", "weights_sha256": "weights", "n_latents": "latents"}
_DIGEST = re.compile(r"[0-9a-f]{40,}")


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the header: what, its value, and the small print."""

    label: str
    value: str
    detail: str = ""


def facts(run: Run) -> list[Fact]:
    """The header, in reading order."""
    document = run.document
    parts = [
        _described("Model", document.get("model")),
        _judge(document.get("judge")),
        _described("Data", document.get("dataset")),
        Fact("Protocol", _protocols(run)),
        Fact("Seed", str(document.get("seed", "unknown"))),
        Fact("Tasks", ", ".join(f"{task['name']} v{task['version']}" for task in run.tasks)),
        _harness(document.get("harness") or {}),
        _machine(document.get("env") or {}),
        Fact(
            "Made",
            _moment(str(document.get("created", "unknown"))),
            _duration(document.get("timing") or {}),
        ),
        Fact("Identity", plain(document.get("identity_sha256")), "what resume and cache go by"),
    ]
    if document.get("parent"):
        parts.append(Fact("Rescores", str(document["parent"])))
    return parts


def sae_table(run: Run) -> tuple[list[str], list[list[str]]]:
    """Column names and one line per SAE: name, 1-based layer, hookpoint, then all else it says."""
    saes: list[Mapping[str, Any]] = list(run.document.get("saes") or ())
    fixed = ("name", "hookpoint", "layer")
    others = [
        k for k in dict.fromkeys(k for sae in saes for k in sae) if k not in (*fixed, *_NOTES)
    ]
    shown = [k for k in others if not any(isinstance(sae.get(k), dict | list) for sae in saes)]
    lines = [
        [plain(sae.get("name")), plain(sae.get("layer")), plain(sae.get("hookpoint"))]
        + [plain(sae.get(key)) for key in shown]
        for sae in saes
    ]
    return [
        "SAE",
        "layer",
        "hookpoint",
        *(_HEADINGS.get(key, key.replace("_", " ")) for key in shown),
    ], lines


def notes(run: Run, rows: Iterable[ScoreRow]) -> list[str]:
    """What to know before quoting a number: the run's own notes, then what follows from it."""
    return [*dict.fromkeys(_own_notes(run.document)), *_derived_notes(run, list(rows))]


def plain(value: Any) -> str:
    """A JSON value for a table cell; a long digest by its first 12 characters."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(plain(item) for item in value)
    text = str(value)
    return text[:12] if _DIGEST.fullmatch(text) else text


def _described(label: str, part: Mapping[str, Any] | None) -> Fact:
    """A mapping as its name with the rest behind it."""
    if not part:
        return Fact(label, "none")
    named = next((key for key in _NAMES if part.get(key)), None)
    rest = [
        f"{key.replace('_', ' ')} {plain(value)}"
        for key, value in part.items()
        if key not in (named, "provider", *_NOTES)
        and value not in (None, "", [], {})
        and not isinstance(value, dict)
    ]
    return Fact(label, plain(part[named]) if named else "unnamed", " · ".join(rest))


def _judge(judge: Mapping[str, Any] | None) -> Fact:
    """`testbed labels`, but `openai/gpt-4o` without saying openai twice."""
    fact = _described("Judge", judge)
    provider = str((judge or {}).get("provider") or "")
    if fact.value.startswith(provider):
        return fact
    return replace(fact, value=f"{provider} {fact.value}")


def _protocols(run: Run) -> str:
    return ", ".join(dict.fromkeys(str(task.get("protocol", "unknown")) for task in run.tasks))


def _harness(harness: Mapping[str, Any]) -> Fact:
    commit = harness.get("commit")
    dirty = " with uncommitted changes" if harness.get("dirty") else ""
    detail = f"commit {str(commit)[:12]}{dirty}" if commit else "no git checkout"
    return Fact(
        "Harness",
        f"{harness.get('name', 'lmmsae-eval')} {harness.get('version', '')}".strip(),
        detail,
    )


def _machine(env: Mapping[str, Any]) -> Fact:
    packages = env.get("packages") or {}
    versions = " · ".join(f"{name} {version}" for name, version in packages.items())
    gpu = env.get("gpu")
    device = plain(gpu) if gpu else f"CPU, {env.get('cpus', '?')} cores"
    python = f"Python {env['python']}" if env.get("python") else ""
    return Fact("Machine", device, " · ".join(part for part in (python, versions) if part))


def _moment(created: str) -> str:
    """`2026-11-22 19:52 UTC` for an ISO time in UTC, anything else as it is."""
    day, t, time = created.removesuffix("+00:00").partition("T")
    return f"{day} {time[:5]} UTC" if t and created.endswith("+00:00") else created


def _duration(timing: Mapping[str, Any]) -> str:
    seconds = timing.get("seconds")
    if seconds is None:
        return ""
    minutes, rest = divmod(round(float(seconds)), 60)
    return f"in {minutes} min {rest} s" if minutes else f"in {rest} s"


def _own_notes(document: Mapping[str, Any]) -> Iterator[str]:
    """`note` and `notes` of the run and of its parts."""
    parts = [document, *(document.get(name) or {} for name in ("model", "dataset", "judge"))]
    parts += [*(document.get("saes") or ()), *(document.get("tasks") or ())]
    for part in parts:
        for key in _NOTES:
            found = part.get(key) or ()
            yield from [found] if isinstance(found, str) else map(str, found)


def _derived_notes(run: Run, rows: list[ScoreRow]) -> Iterator[str]:
    if run.status == "partial":
        yield "This run has not ended: its numbers are of the samples so far."
    if run.status == "limited":
        limit = run.document.get("limit")
        chosen = "chosen ones" if run.document.get("samples") else f"limit {limit}"
        yield f"This run saw a part of the samples ({chosen}); leaderboards don't take it."
    if (run.document.get("harness") or {}).get("dirty"):
        yield "The harness had uncommitted changes: the commit above does not say all of what ran."
    errors = sum(
        int(counts.get("error", 0)) for counts in (run.document.get("counts") or {}).values()
    )
    if errors:
        yield f"Samples that broke: {errors}. They are in no score and listed under “Not scored”."
    small = sum(row.insufficient for row in rows)
    if small:
        yield f"Cells with too few independent units for a number say “insufficient”: {small}."
    for task in run.tasks:
        yield (
            f"{task['name']}: intervals resample whole clusters ({task.get('cluster') or '?'}). "
            f"Unscorable samples: {task.get('unscorable') or 'left out'}."
        )
