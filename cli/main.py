"""`lmmsae-eval`: the group of all commands."""

from __future__ import annotations

import signal
import sys
import warnings

import click

from .. import __version__
from .group import LazyGroup

SECTIONS = {
    "Run": {
        "run": "Evaluate SAEs on tasks; typed again it resumes.",
        "train": "Train SAEs on some layers of a model.",
    },
    "Inspect": {
        "ls": "List tasks, runs or SAEs.",
        "show": "Print a run's scores, or what failed.",
        "report": "Write a run's HTML report.",
        "compare": "Say which runs are better than the first, or that they are tied.",
        "power": "Say how much data a wished-for difference needs.",
        "score": "Judge a run's stored outputs again, or make its metrics again.",
        "export-config": "Write the options that made a run.",
        "check": "The CI gate: fail when a run is worse than its baseline.",
        "baseline": "Bless a run as the baseline, or show it.",
    },
    "Publish": {
        "annotate": "Let people rate a run's explanations.",
        "submit": "Add a run to a leaderboard.",
        "convert": "Write SAEs in another library's layout.",
        "push": "Upload SAEs to the Hugging Face hub.",
    },
    "Maintain": {
        "data": "Fetch other people's question sets; score replies to them.",
        "cache": "See or remove what is kept between runs.",
        "tasks": "Lock tasks' versions to their source.",
        "doctor": "Say what is installed and whether a model loads.",
        "testbed": "Rebuild the embedded testbed, or read its card.",
    },
}

EXIT_CODES = """\b
Exit codes:
  0 done                          4 regression
  1 bug                           5 runs can't be compared
  2 wrong option, path or file    6 invalid submission
  3 incomplete, can be resumed    130 interrupted"""


def _hyphens(name: str) -> str:
    """`--output_dir` is as good as `--output-dir`."""
    return name.replace("_", "-")


@click.group(
    "lmmsae-eval",
    cls=LazyGroup,
    sections=SECTIONS,
    epilog=EXIT_CODES,
    context_settings={
        "auto_envvar_prefix": "LMMSAE_EVAL",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": _hyphens,
    },
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="lmmsae-eval")
def cli(debug: bool) -> None:
    """Benchmark sparse autoencoders (SAEs) on large multimodal models (LMMs).

    \b
    Start with:  lmmsae-eval run --tasks iou,consistency,halluc
    """


def main() -> None:
    """The console script."""
    warnings.showwarning = _one_line_warning
    # A job scheduler's SIGTERM ends a command as Ctrl-C does: what was done stays usable.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli(prog_name="lmmsae-eval")


def _one_line_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)  # noqa: T201
