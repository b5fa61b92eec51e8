"""A leaderboard is a folder: submissions that are never changed, and an index of them."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.rundir import MANIFEST, RUN, Run, RunDirectory
from ..harness.writing import clear_errors, replace_json
from .reading import MAX_DOCUMENT, NAME, listed_files, parse, read_bytes
from .refusal import refusal
from .verify import verify

INDEX, SUBMISSIONS = "leaderboard.json", "submissions"
SCHEMA_VERSION = 1
TIERS = ("community", "verified")
"""`community`: passed every check. `verified`: a maintainer ran it again."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One run on one board."""

    run_id: str
    sae: str
    """The folder name that stands for the run's SAEs."""
    tier: str
    submitted: str
    """The day, as `2026-11-22`."""
    manifest_sha256: str
    added: bool = field(default=True, compare=False)
    """False when the board had this run already."""

    @property
    def path(self) -> str:
        """Relative to the board."""
        return f"{SUBMISSIONS}/{self.sae}/{self.run_id}"


def submit(run: Run, board: Path, tier: str = "community") -> Submission:
    """Check a complete run and add it to a board, which is made when there is none.

    The same run submitted again changes nothing (`added` is False). Raises `InvalidSubmissionError`
    with a code of `refusal.CODES`, and leaves the board as it was.
    """
    if tier not in TIERS:
        raise UsageError(f"unknown tier {tier!r}; choose one of {', '.join(TIERS)}")
    if run.status != "complete":
        raise refusal("LB006", f"{run.path} is {run.status}; boards take complete runs only")
    with tempfile.TemporaryDirectory() as folder:
        verified = verify(run.path, Path(folder))
        with RunDirectory(board).lock():
            return _add(verified, board, tier)


def load_board(board: Path) -> list[Submission]:
    """What the index lists, oldest first. Raises `UsageError` when there is no board to be read."""
    if not (board / INDEX).is_file():
        raise UsageError(f"no leaderboard in {board}; submit a run to make one")
    document = parse(read_bytes(board, INDEX, MAX_DOCUMENT), INDEX)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise UsageError(f"{board / INDEX} is of an unknown schema; upgrade lmmsae-eval to read it")
    entries = document.get("submissions")
    if not isinstance(entries, list):
        raise refusal("LB002", f"{INDEX} lists no submissions")
    return [_listed(entry) for entry in entries]


def verify_board(board: Path) -> list[Submission]:
    """Check every submission again, from its samples. Raises `InvalidSubmissionError`."""
    listed = load_board(board)
    there = {f.parent for f in board.glob(f"{SUBMISSIONS}/*/*/{RUN}")}
    names = {f.relative_to(board).as_posix() for f in there if not f.name.startswith(".")}
    if strangers := names - {submission.path for submission in listed}:
        raise refusal("LB013", f"{min(strangers)} is on the board, but not in {INDEX}")
    for submission in listed:
        stored_document(board, submission)
        with tempfile.TemporaryDirectory() as folder:
            verify(board / submission.path, Path(folder))
    return listed


def stored_document(board: Path, submission: Submission) -> dict[str, Any]:
    """A submission's run.json, refused unless it is the one that was submitted."""
    folder = board / submission.path
    manifest = read_bytes(folder, MANIFEST, MAX_DOCUMENT)
    content = read_bytes(folder, RUN, MAX_DOCUMENT)
    if _sha256(manifest) != submission.manifest_sha256:
        raise refusal("LB013", f"{submission.path}/{MANIFEST} was changed on the board")
    if _sha256(content) != listed_files(parse(manifest, MANIFEST))[RUN]:
        raise refusal("LB013", f"{submission.path}/{RUN} was changed on the board")
    document: dict[str, Any] = parse(content, RUN)
    return document


def sae_slug(names: Iterable[str]) -> str:
    """A folder name for a run's SAEs: how their names begin, or the first and how many more."""
    unique = sorted(set(names)) or ["no-sae"]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*unique, strict=False))
    common = _slug("".join(letters[0] for letters in alike))
    if len(unique) == 1 or len(common) >= 3:
        return common or "sae"
    return f"{_slug(unique[0]) or 'sae'}-and-{len(unique) - 1}-more"


def _add(run: Run, board: Path, tier: str) -> Submission:
    """Put a checked run in place, in one rename, then into the index."""
    listed = load_board(board) if (board / INDEX).is_file() else []
    known = next((s for s in listed if s.run_id == run.id), None)
    if known is not None:
        _check_same(run, board / known.path)
        return replace(known, added=False)
    sae = sae_slug(s["name"] for s in run.document["saes"] if s.get("arm", "main") == "main")
    folder = board / SUBMISSIONS / sae / run.id
    with clear_errors(board):
        if not folder.exists():
            _place(run.path, folder)
    # It may have lain there unlisted, when a process was killed before this step.
    _check_same(run, folder)
    today = datetime.now(UTC).date().isoformat()
    manifest = _sha256(read_bytes(folder, MANIFEST, MAX_DOCUMENT))
    submission = Submission(run.id, sae, tier, today, manifest)
    _write_index(board, [*listed, submission])
    return submission


def _check_same(run: Run, folder: Path) -> None:
    """The same outcomes are the same run, whatever else differs: its time, say."""
    if _sample_digests(folder) != _sample_digests(run.path):
        raise refusal(
            "LB013",
            f"{run.id} is on the board with other samples, and submissions are never changed; "
            "use another board, or find out why the same run came out differently",
        )


def _place(source: Path, target: Path) -> None:
    """Copy with sample files compressed; a kill leaves a hidden folder, never half a submission."""
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=target.parent))
    try:
        for file in (f for f in source.rglob("*") if f.is_file()):
            _copy(file, incoming / file.relative_to(source))
        incoming.chmod(0o755)
        incoming.rename(target)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = file.read_bytes()
    if file.suffix == ".jsonl":
        # Without a time in it, the same samples are the same bytes.
        target.with_name(f"{target.name}.gz").write_bytes(gzip.compress(content, mtime=0))
    else:
        target.write_bytes(content)


def _write_index(board: Path, submissions: Iterable[Submission]) -> None:
    entries = [{k: v for k, v in asdict(s).items() if k != "added"} for s in submissions]
    replace_json(board / INDEX, {"schema_version": SCHEMA_VERSION, "submissions": entries})


def _listed(entry: Any) -> Submission:
    """An index entry; refused when its names could lead out of the board."""
    keys = ("run_id", "sae", "tier", "submitted", "manifest_sha256")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in keys):
        raise refusal("LB002", f"{INDEX} lists a submission without {', '.join(keys)}")
    for key in ("run_id", "sae"):
        if not NAME.fullmatch(entry[key]):
            raise refusal("LB005", f"{INDEX}: {key} {entry[key]!r} can't be part of a path")
    return Submission(*(entry[key] for key in keys))


def _sample_digests(folder: Path) -> Mapping[str, str]:
    files = listed_files(parse(read_bytes(folder, MANIFEST, MAX_DOCUMENT), MANIFEST))
    return {name: digest for name, digest in files.items() if name.startswith("samples/")}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
