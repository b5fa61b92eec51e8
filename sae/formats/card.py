"""The model card of a folder of SAEs: what they are, how well they do, how to load them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from .family import Stored
from .hub import parse

MARK = "<!-- made by lmmsae-eval push -->"
"""In every card that nobody wrote by hand."""
_METRICS = "metrics.jsonl"
_NOT_SCORES = ("step", "lr")


def model_card(repo: str, root: Path, saes: Sequence[Stored]) -> str:
    """Markdown with the hub's header; scores are the last of each hookpoint in `metrics.jsonl`."""
    scores = last_metrics(root / _METRICS)
    models = sorted({one.model for one in saes if one.model})
    return "\n".join(
        [
            *_header(models),
            MARK,
            f"# {repo.rpartition('/')[2]}",
            "",
            f"Sparse autoencoders on the residual stream of {_told(models)}.",
            "",
            *_table(saes, scores),
            "",
            *_provenance(bool(scores)),
            "```python",
            "from lmmsae_eval import load_sae",
            "",
            f'for hookpoint, sae in load_sae("{repo}"):',
            "    print(hookpoint, sae.n_latents, sae.k)",
            "```",
            "",
        ]
    )


def last_metrics(path: Path) -> dict[str, dict[str, float]]:
    """The last finite scores of each hookpoint in the trainer's log; empty without a log.

    Raises `UsageError` for a line that is no JSON object.
    """
    found: dict[str, dict[str, float]] = {}
    if not path.is_file():
        return found
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = _line(text, path, number)
        scores = {key: value for key, value in line.items() if _is_score(key, value)}
        found.setdefault(str(line.get("hookpoint", "")), {}).update(scores)
    return found


def _line(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise UsageError(f"{path}, line {number} is no JSON object; mend or remove the file")
    return line


def _is_score(key: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and key not in _NOT_SCORES


def _header(models: Sequence[str]) -> list[str]:
    """YAML; a JSON string is a YAML string whatever is in it."""
    named = [model for model in models if parse(model)]
    base = ["base_model:", *(f"- {json.dumps(model)}" for model in named)] if named else []
    return [
        "---",
        "library_name: lmmsae-eval",
        "tags:",
        "- sparse-autoencoder",
        "- interpretability",
        *base,
        "---",
        "",
    ]


def _table(saes: Sequence[Stored], scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(key for one in saes for key in scores.get(one.hookpoint, {})))
    head = ["hookpoint", "architecture", "latents", "d_model", "k", *columns]
    return [
        _row(head),
        _row(["---", "---", *("--:" for _ in head[2:])]),
        *(_row(_cells(one, columns, scores.get(one.hookpoint, {}))) for one in saes),
    ]


def _cells(one: Stored, columns: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    numbers = [f"{scores[key]:.4g}" if key in scores else "" for key in columns]
    sae = one.sae
    shape = [sae.architecture, str(sae.n_latents), str(sae.d_model), str(sae.k or "")]
    return [one.hookpoint, *shape, *numbers]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Without what would break a table or start markup."""
    return re.sub(r"[|<>`\[\]\n\r]", "_", text)


def _told(models: Sequence[str]) -> str:
    return ", ".join(_plain(model) for model in models) or "a model that they don't name"


def _provenance(scored: bool) -> list[str]:
    if not scored:
        return ["No metrics of the training are at hand.", ""]
    return [
        "The scores are of the last batch that training logged: fvu is the share of the variance "
        "left unexplained, l0 the latents a token, dead the share of latents that no longer fire.",
        "",
    ]
