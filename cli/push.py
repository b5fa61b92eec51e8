"""`lmmsae-eval push FOLDER REPO`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("push")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--private", is_flag=True, help="Make a repository that only you can see.")
@click.option("--dry-run", is_flag=True, help="Write the card into FOLDER and send nothing.")
def command(folder: Path, repo: str, private: bool, dry_run: bool) -> None:
    """Upload trained SAEs to the Hugging Face hub, with a model card.

    The card, FOLDER/README.md, has a table of the SAEs with their training metrics; one that is
    there already is kept. REPO is owner/name. Log in with `hf auth login` before.
    """
    from ..sae.formats import push

    click.echo(push(folder, repo, private=private, dry_run=dry_run))
