"""`lmmsae-eval convert FROM INTO --to FORMAT`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert")
@click.argument("ref", metavar="FROM")
@click.argument("out", metavar="INTO", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="sparsify (the native one), saelens, dictionary_learning or peft.",
)
def command(ref: str, out: Path, to: str) -> None:
    """Write SAEs in another library's layout.

    FROM is a folder, a torch file or a hub id owner/name[/folder][@revision], in any layout that
    can be read (the written ones, and openai's); INTO is a new folder. The reconstruction stays the
    same; what a layout can't express is refused.
    """
    from ..sae.formats import convert

    for place in convert(ref, out, to):
        click.echo(place)
