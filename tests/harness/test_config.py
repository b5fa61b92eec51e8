"""Options in files: what is written is read back, and what is no option file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.config import read_config, write_config

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.one_of(
    TEXT, st.integers(-(2**40), 2**40), st.floats(-1e9, 1e9), st.booleans(), st.lists(TEXT)
)
NAMES = st.text("abcxyz_", min_size=1, max_size=8)
OPTIONS = st.dictionaries(NAMES.filter(lambda name: name != "params"), PLAIN, max_size=5)
PARAMS = st.dictionaries(
    st.sampled_from(["iou", "package/task", "a.b", "ä"]),
    st.dictionaries(NAMES, st.one_of(PLAIN, st.dictionaries(NAMES, PLAIN, max_size=2))),
)


@pytest.mark.parametrize("suffix", ["toml", "yaml", "yml"])
@settings(deadline=None, max_examples=30)
@given(options=OPTIONS, params=PARAMS)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    options: dict[str, Any],
    params: dict[str, Any],
) -> None:
    file = tmp_path_factory.mktemp("config") / f"run.{suffix}"
    written = {**options, "params": params}

    write_config(file, written, "a heading")

    found = read_config(file)
    assert {"params": {}, **found} == written
    assert file.read_text().startswith("# a heading\n")


def test_hyphens_and_underscores_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('output-dir = "x"\njudge_price = [1, 2]\n')

    assert read_config(tmp_path / "run.toml") == {"output_dir": "x", "judge_price": [1, 2]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.toml", "tasks = [", "can't read options from"),
        ("run.yaml", "tasks: [", "can't read options from"),
        ("run.yaml", "- iou", "holds no options"),
        ("run.yaml", "1: iou", "holds no options"),
        ("run.yaml", "", "holds no options"),
        ("run.json", "{}", "neither TOML nor YAML"),
        ("run.toml", "params = 3", "is no table of tasks"),
        ("run.toml", "[params]\niou = 3", "is no table of tasks"),
        ("none.toml", None, "can't read options from"),
    ],
)
def test_what_holds_no_options_is_refused_in_one_line(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(UsageError, match=message) as error:
        read_config(tmp_path / name)

    assert "\n" not in str(error.value)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("tasks: !!python/object/apply:os.getcwd []")

    with pytest.raises(UsageError, match="could not determine a constructor"):
        read_config(tmp_path / "run.yaml")


def test_toml_has_no_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write a \.yaml file"):
        write_config(tmp_path / "run.toml", {"params": {"iou": {"x": None}}}, "")
