"""`convert` and `push`, typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from lmmsae_eval.sae.formats import load_sae, save_sae
from lmmsae_eval.sae.topk import TopK

Type = Callable[..., Result]


def test_convert_prints_the_places_that_it_wrote(type_command: Type, in_folder: Path) -> None:
    sae = TopK.random(16, 8, 2, seed=0)
    save_sae(sae, in_folder / "saes" / "model.layers.1")
    result = type_command("convert", "saes", "theirs", "--to", "saelens")
    assert result.exit_code == 0, result.output
    assert result.stdout == "theirs/model.layers.1\n"
    assert load_sae("theirs")[0][1].identity == sae.identity
    listed = type_command("ls", "saes", "--saes", "theirs", "--json").stdout
    assert json.loads(listed)[0]["latents"] == 16


def test_a_mistyped_format_and_a_missing_folder_are_usage_errors(
    type_command: Type, in_folder: Path
) -> None:
    save_sae(TopK.random(16, 8, 2, seed=0), in_folder / "saes" / "model.layers.1")
    wrong = type_command("convert", "saes", "b", "--to", "sparsfy")
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "Error: unknown format 'sparsfy'; did you mean 'sparsify'?\n",
    )
    missing = type_command("convert", "nowhere", "b", "--to", "saelens")
    assert missing.exit_code == 2
    assert "no SAE folder at nowhere" in missing.stderr


def test_push_dry_run_writes_the_card_and_sends_nothing(
    type_command: Type, in_folder: Path
) -> None:
    save_sae(TopK.random(16, 8, 2, seed=0), in_folder / "saes" / "model.layers.1")
    result = type_command("push", "saes", "me/mine", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "saes/README.md\n")
    assert (
        "| model.layers.1 | topk | 16 | 8 | 2 |" in (in_folder / "saes" / "README.md").read_text()
    )


def test_push_of_nothing_is_a_usage_error(type_command: Type) -> None:
    result = type_command("push", "nowhere", "me/mine", "--dry-run")
    assert result.exit_code == 2
    assert "no folder at nowhere" in result.stderr
