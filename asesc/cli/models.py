"""``asesc models``: what is there and what it is good for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(help="List and inspect pretrained models.", no_args_is_help=True)


@models.command("list")
def list_() -> None:
    """All models found, with their scope.

    Example: `asesc models list`
    """
    from rich.console import Console

    from asesc.cli.report import model_list
    from asesc.errors import ModelFormatError
    from asesc.pretrained import list_models, model_card

    cards = {}
    for name in list_models():
        try:
            cards[name] = model_card(name)
        except ModelFormatError as error:
            # One damaged model hides none of the others.
            typer.secho(f"{name} cannot be used: {error}", fg="yellow", err=True)
    Console().print(model_list(cards))


@models.command()
def info(name: Annotated[str, typer.Argument(help="Name of a model, or its folder.")]) -> None:
    """The card of one model: scope, level of theory, errors, limits, citation.

    Example: `asesc models info quartz`
    """
    from rich.console import Console

    from asesc.cli.report import model_info
    from asesc.pretrained import model_card

    Console().print(model_info(model_card(name)))


@models.command("import-polar")
def import_polar(
    file: Annotated[Path, typer.Argument(help="Checkpoint of MACE-POLAR-1, as downloaded.")],
    trust: Annotated[
        bool, typer.Option("--trust", help="Open the pickle, which may run any code in it.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; default: the file's name without suffix.")
    ] = None,
) -> None:
    """Convert a checkpoint of PolarMACE to a folder without code.

    Example: `asesc models import-polar MACE-POLAR-1-M.model --trust`
    """
    from asesc.errors import InputError
    from asesc.pretrained.import_polar import import_polar as convert

    folder = output or Path(file.stem.lower())
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another folder with --output")
    imported = convert(file, folder, name=folder.name, trust=trust)
    typer.echo(f"read {file}, sha256 {imported.sha256}")
    typer.echo(f"wrote {folder}, family {imported.card.family}; edit the scope in its card.json")
