"""Question sets of other people: where each is published, and by what it is known to be whole.

None of them is part of this package. They are fetched on request or read from a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import UnknownNameError

_RAW = "https://raw.githubusercontent.com"
FIGURES = "figures"
"""The folder beside a set's files that holds its images."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a set."""

    name: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Published:
    """A set of yes/no questions about images that are a separate download."""

    name: str
    title: str
    licence: str
    files: tuple[File, ...]
    n_questions: int
    n_figures: int
    images: str
    """Where the images are to be had."""
    hub: str | None = None
    """A hub id that holds questions and figures together, where there is one."""
    answers_sha256: str | None = None
    """Of all keys and true answers: what tells whether the hub's rows are the same questions."""


def _pope(split: str, sha256: str) -> File:
    commit = "08d957b917e5a378a2f99d35b6293c536a66298b"
    name = f"coco_pope_{split}.json"
    return File(name, f"{_RAW}/AoiDragon/POPE/{commit}/output/coco/{name}", sha256)


def _amber(path: str, sha256: str) -> File:
    commit = "534babf6bbfcce2e735c26289dedfb21cef3c939"
    url = f"{_RAW}/junyangwang0410/AMBER/{commit}/data/{path}"
    return File(path.rpartition("/")[2], url, sha256)


HALLUSIONBENCH = Published(
    name="hallusionbench",
    title="HallusionBench (Guan et al., CVPR 2024, arXiv 2310.14566)",
    licence="BSD-3-Clause",
    files=(
        File(
            "HallusionBench.json",
            f"{_RAW}/tianyi-lab/HallusionBench/744007c232c292942c7f80eb61edb2465482da31/HallusionBench.json",
            "ca6e0fb677dd56e5fb0e2700d06c58d01f8a6ae66e0f1773b2ac48c0a095d051",
        ),
    ),
    n_questions=1129,
    n_figures=346,
    images="hallusion_bench.zip, linked from github.com/tianyi-lab/HallusionBench",
    hub="lmms-lab/HallusionBench",
    answers_sha256="2de9347695c0b42a983d064d56b11f860b40aae9805539245c7a015ae00ef32a",
)
POPE = Published(
    name="pope",
    title="POPE on COCO (Li et al., EMNLP 2023, arXiv 2305.10355)",
    licence="MIT",
    files=(
        _pope("random", "ac25245170b975a5bdf9080b23fd431dfe6be458bc038259c1f4f09a6bef7994"),
        _pope("popular", "72c1a8ad45d0c13514f5f22598261df41d3b533854d29682e924db50ed8aa753"),
        _pope("adversarial", "420b3407db1fa9f1187a805dca41cb7b97fd91504e6c2179706188c107fb8ef8"),
    ),
    n_questions=9000,
    n_figures=500,
    images="COCO val2014, from cocodataset.org",
)
AMBER = Published(
    name="amber",
    title="AMBER (Wang et al., arXiv 2311.07397)",
    licence="Apache-2.0",
    files=(
        _amber(
            "query/query_all.json",
            "127680ae61f7d4a92d2f7f07a8deaec07f0689b194d2c7c0f41ead7bd2c5bcf5",
        ),
        _amber(
            "annotations.json",
            "db22a436c4836fbb295e60b4e80d519573077579fb7032f01b193c1bd022b797",
        ),
        _amber(
            "relation.json",
            "c4c1491e9bbc3209abc1888c12a1bf8413bdbab8a0d8be04b990a2e7680cf23e",
        ),
        _amber(
            "safe_words.txt",
            "f92cf1123f4578a2630832fac3e6ac4de36212ea55859d3bed4fd233723f4043",
        ),
    ),
    n_questions=14216,
    n_figures=1004,
    images="the link in the README of github.com/junyangwang0410/AMBER",
)
PUBLISHED = {each.name: each for each in (HALLUSIONBENCH, POPE, AMBER)}


def published(name: str) -> Published:
    """Raises `UnknownNameError`."""
    if name not in PUBLISHED:
        raise UnknownNameError("question set", name, names())
    return PUBLISHED[name]


def names() -> Iterable[str]:
    return PUBLISHED.keys()


def data_root() -> Path:
    """`$LMMSAE_EVAL_DATA`, or the platform's folder for data."""
    from platformdirs import user_data_path

    chosen = os.environ.get("LMMSAE_EVAL_DATA")
    return Path(chosen) if chosen else user_data_path("lmmsae-eval")
