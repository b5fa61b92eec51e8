"""`lmmsae-eval data get|ls|score|export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import IncompleteError, UsageError
from .find import find_run
from .options import json_option, print_json
from .table import print_table

if TYPE_CHECKING:
    from ..tasks.benchmarks.getting import Got
    from ..tasks.benchmarks.predictions import Predictions
    from ..tasks.benchmarks.scorings import Scored

_FEW = 5


@click.group("data")
def command() -> None:
    """Other people's question sets: hallusionbench, pope, amber. None is part of this package."""


@command.command("get")
@click.argument("name")
@click.option(
    "--from",
    "source",
    metavar="REF",
    help="A file, a folder, or hub:ID[@revision]; hub alone is the known id.  [default: upstream]",
)
@click.option(
    "--images",
    metavar="REF",
    help="Its images: a folder, a zip or tar archive, or hub:ID. They are copied beside it.",
)
def get_(name: str, source: str | None, images: str | None) -> None:
    """Bring a question set here, checked to the last byte, and say which images are missing."""
    from ..tasks.benchmarks.getting import get
    from ..tasks.benchmarks.published import published

    what = published(name)
    source, images = (
        f"hub:{what.hub}" if ref == "hub" and what.hub else ref for ref in (source, images)
    )
    _tell(get(what, source, images), what.images)


@command.command("ls")
@json_option
def ls(as_json: bool) -> None:
    """Which sets are here, with how many questions and images."""
    from ..tasks.benchmarks.published import PUBLISHED, data_root

    rows = [_row(name) for name in PUBLISHED]
    if as_json:
        print_json({"root": str(data_root()), "sets": rows})
        return
    header = ["set", "questions", "images", "licence", "place"]
    cells = [[str(row[name]) for name in header] for row in rows]
    print_table(header, cells, ("questions", "images"))


@command.command("score")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    help="A HallusionBench-schema JSON.  [default: the one that `data get hallusionbench` brought]",
)
@click.option(
    "--scoring",
    "scorings",
    multiple=True,
    type=click.Choice(["paper", "lmms_eval", "vlmevalkit"]),
    help="By whose rules; repeatable.  [default: all three; with a judge the first two]",
)
@click.option(
    "--judge",
    metavar="REF",
    help="Ask a judge, as published, instead of parsing: openai/MODEL, a URL[#model], hf:FOLDER|ID "
    "or replay:FILE.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the judge's replies are kept, never to be paid for twice.  [default: FILE.judged]",
)
@click.option("--arm", default="untouched", show_default=True, help="Of a run.")
@click.option("--hookpoint", metavar="NAME", help="Of a run whose arm is at several.")
@json_option
def score_(
    file: Path,
    questions: Path | None,
    scorings: tuple[str, ...],
    arm: str,
    hookpoint: str | None,
    judge: str | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """HallusionBench's published aggregates from a file of replies, by three harnesses' rules.

    FILE is a JSON list or JSON lines, each with the question's keys (or `id`) and the reply in
    `model_prediction`; or the folder of a run of halluc. Replies are parsed to yes or no; what is
    neither is counted apart.
    """
    from ..tasks.benchmarks.scorings import SCORINGS, score_by

    said = _predictions(file, questions, arm, hookpoint)
    broken = 0
    if judge is None:
        found = [score_by(name, said.records, said.answers) for name in scorings or SCORINGS]
    else:
        record = record or file.with_name(f"{file.name}.judged")
        found, broken = _judged(said, file, judge, record, scorings)
    if as_json:
        print_json({"not_asked": said.not_asked, "scorings": [asdict(each) for each in found]})
    else:
        _print_scored(found)
        if said.not_asked:
            click.echo(f"{said.not_asked} questions have no reply and are left out", err=True)
    if broken:
        raise IncompleteError(f"{broken} calls of the judge broke; the same command asks again")


@command.command("export")
@click.argument("ref", metavar="REF")
@click.option("--images", metavar="PATH", help="A folder or an archive.  [default: as fetched]")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The task's folder.",
)
def export_(ref: str, images: str | None, out: Path) -> None:
    """Write hallusionbench, or a file of its schema, as an offline task of lm-eval."""
    from ..tasks.benchmarks.lm_eval_task import TASK, export_task
    from ..tasks.benchmarks.opening import open_questions

    file = export_task(open_questions(ref, images), out)
    click.echo(f"task {TASK} at {file}: give lm-eval its folder as --include_path")


def _tell(got: Got, where: str) -> None:
    click.echo(f"{got.folder}: {got.n_questions} questions, {got.n_text_only} without an image")
    if got.missing:
        few = ", ".join(got.missing[:_FEW]) + (", ..." if len(got.missing) > _FEW else "")
        click.echo(f"{len(got.missing)} of {got.n_figures} images are missing: {few}")
        click.echo(f"they are a separate download ({where}); then: --images FOLDER|ARCHIVE")
    else:
        click.echo(f"all {got.n_figures} images are here")


def _row(name: str) -> dict[str, object]:
    from ..tasks.benchmarks.getting import state
    from ..tasks.benchmarks.published import PUBLISHED, data_root

    what = PUBLISHED[name]
    row: dict[str, object] = {"set": name, "licence": what.licence}
    if not all((data_root() / name / file.name).is_file() for file in what.files):
        return row | {"questions": "-", "images": "-", "place": f"`data get {name}` brings it"}
    got = state(what)
    there = got.n_figures - len(got.missing)
    images = f"{there}/{got.n_figures}"
    return row | {"questions": got.n_questions, "images": images, "place": str(got.folder)}


def _predictions(
    file: Path, questions: Path | None, arm: str, hookpoint: str | None
) -> Predictions:
    from ..tasks.benchmarks.predictions import predictions_of_run, read_predictions
    from ..tasks.benchmarks.published import HALLUSIONBENCH, data_root
    from ..tasks.benchmarks.reading import read_file, read_published

    if file.is_dir():
        return predictions_of_run(find_run(str(file)), arm, hookpoint)
    if questions is not None:
        return read_predictions(file, read_file(questions))
    return read_predictions(file, read_published(HALLUSIONBENCH, data_root() / HALLUSIONBENCH.name))


def _judged(
    said: Predictions, file: Path, judge: str, record: Path, scorings: Sequence[str]
) -> tuple[list[Scored], int]:
    """The scores, and how many replies the judge could not be asked about."""
    from ..harness.rundir import RunDirectory
    from ..harness.transcript import Transcript
    from ..tasks.benchmarks.judging import JUDGED, judge_replies, score_judged
    from ..tasks.chats import open_chat

    if file.is_dir():
        raise UsageError("a run keeps yes and no, not the replies; --judge needs a file of replies")
    if strangers := set(scorings) - set(JUDGED):
        raise UsageError(f"{strangers.pop()} parses, it asks no judge; leave it or --judge out")
    transcript, folder = Transcript(), RunDirectory(record)
    client = open_chat(judge, "judge", transcript)
    with folder.lock():
        transcript.open(folder)
        judged = judge_replies(said, client)
    return score_judged(judged, scorings or JUDGED), judged.count("error")


def _print_scored(found: Sequence[Scored]) -> None:
    """A row per number. All are shares, also those that the papers print in percent."""
    rows = [
        [each.scoring, split, name, "-" if value is None else f"{value:.4f}", str(each.n)]
        for each in found
        for split, aggregates in each.splits.items()
        for name, value in aggregates.items()
    ]
    print_table(["scoring", "split", "number", "value", "n"], rows, ("value", "n"))
    for each in found:
        note = f"; {each.note}" if each.note else ""
        click.echo(f"{each.scoring}: {each.unscorable} of {each.n} are neither yes nor no{note}")
