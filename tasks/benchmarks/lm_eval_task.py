"""HallusionBench, or any questions of its schema, as an offline task folder of lm-eval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...harness.writing import replace_bytes
from ..hallucination.benchmark import parse_answer
from ..hallucination.questions import NO_FIGURE, Question
from .figures import plain
from .opening import OpenedQuestions
from .scorings import score_by

if TYPE_CHECKING:
    from PIL.Image import Image

TASK = "lmmsae_hallusionbench"
_SCORING = "lmms_eval"
_FUNCTIONS = """\
# Written by `lmmsae-eval data export`.
from lmmsae_eval.tasks.benchmarks.lm_eval_task import (  # noqa: F401
    aacc,
    doc_to_image,
    facc,
    process_results,
    qacc,
)
"""
_YAML = """\
# Written by `lmmsae-eval data export`. Questions with a figure, scored as lmms-eval does, from
# parsed answers.
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: generate_until
doc_to_image: !function functions.doc_to_image
doc_to_text: "<image>{{{{question}}}}"
doc_to_target: gt_answer
process_results: !function functions.process_results
generation_kwargs:
  until: []
  max_gen_toks: 16
  do_sample: false
metric_list:
{metrics}
metadata:
  version: 1
"""
_METRIC = """\
  - metric: {name}
    aggregation: !function functions.{name}
    higher_is_better: true
"""
_METRICS = ("aacc", "facc", "qacc")


def export_task(asked: OpenedQuestions, folder: Path) -> Path:
    """Write task, questions and images to `folder`; returns the YAML file.

    Raises `UsageError` when no question has an image.
    """
    seen = [record for record in asked.records if record["visual_input"] != NO_FIGURE]
    if not seen or asked.figures is None:
        raise UsageError(f"{asked.name}: no question has an image; give --images")
    for name in {plain(str(record["filename"])) for record in seen}:
        replace_bytes(folder / "images" / name, asked.figures.read(name))
    place = folder.resolve() / "questions.jsonl"
    rows = [{**r, "path": str(place.parent / "images" / plain(str(r["filename"])))} for r in seen]
    replace_bytes(place, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    replace_bytes(folder / "functions.py", _FUNCTIONS.encode())
    metrics = "".join(_METRIC.format(name=name) for name in _METRICS).rstrip()
    text = _YAML.format(task=TASK, questions=json.dumps(str(place)), metrics=metrics)
    replace_bytes(folder / f"{TASK}.yaml", text.encode())
    return folder / f"{TASK}.yaml"


def doc_to_image(doc: Mapping[str, Any]) -> list[Image]:
    """lm-eval's way to get a document's images."""
    from ...sae.images import read_image

    return [read_image(Path(str(doc["path"])))]


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """The same item under every metric: figures and pairs are scored over all documents."""
    record = {name: doc[name] for name in doc if name != "path"}
    item = {"id": Question(record).id, "record": record, "answer": parse_answer(str(results[0]))}
    return dict.fromkeys(_METRICS, item)


def aacc(items: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of questions answered right."""
    return _score(items, "aacc")


def facc(items: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of figures with all questions right."""
    return _score(items, "facc")


def qacc(items: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of question pairs with all records right."""
    return _score(items, "qacc")


def _score(items: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    records, answers = ([item[key] for item in items] for key in ("record", "answer"))
    return score_by(_SCORING, records, answers).overall[metric]
