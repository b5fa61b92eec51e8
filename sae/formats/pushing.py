"""SAEs to the hub, with a model card."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError
from ..files import told_in_one_line, write_atomically
from .card import MARK, model_card
from .hub import first_sentence, parse
from .loading import places_at

CARD = "README.md"
_BESIDE = ("config.json", "metrics.jsonl")
"""What a training run leaves beside its SAEs and readers of the card want."""


def push(folder: Path, repo: str, *, private: bool = False, dry_run: bool = False) -> str:
    """Write `README.md` into `folder` and upload it with the SAEs in one commit.

    Returns the commit's address, or the card's path when `dry_run`: then nothing leaves this
    machine. Only SAEs, the run's config and its metrics go up. A README.md that somebody wrote is
    kept and goes up as it is; one of ours is written anew, since its scores may be of before.
    Raises `UsageError` for a folder without SAEs, an SAE that doesn't load, and whatever the hub
    refuses.
    """
    ref = parse(repo)
    if ref is None or ref.folder or ref.revision:
        raise UsageError(f"{repo!r} is no repository; write owner/name")
    if not folder.is_dir():
        raise UsageError(f"no folder at {folder}; give the one that `lmmsae-eval train` has made")
    places = places_at(folder, folder)
    saes = [one for place in places for one in place.family.read(place.path)]
    card = folder / CARD
    if not card.exists() or MARK in card.read_text(encoding="utf-8"):
        with told_in_one_line(card):
            write_atomically(card, model_card(repo, folder, saes))
    if dry_run:
        return str(card)
    files = [place.path / name for place in places for name in place.family.files]
    files += [folder / name for name in (CARD, *_BESIDE)]
    return _upload(folder, repo, private, [str(file.relative_to(folder)) for file in files])


def _upload(folder: Path, repo: str, private: bool, files: list[str]) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                allow_patterns=files,
                commit_message="Sparse autoencoders from lmmsae-eval",
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UsageError(
            f"the hub didn't take {repo}: {first_sentence(error)}; log in with `hf auth login`, or "
            "look at the card alone with --dry-run"
        ) from error
