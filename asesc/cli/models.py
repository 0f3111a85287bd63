"""``asesc models``: what is there and what it is good for."""

from __future__ import annotations

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
    from asesc.pretrained import list_models, model_card

    Console().print(model_list([model_card(name) for name in list_models()]))


@models.command()
def info(name: Annotated[str, typer.Argument(help="Name of a model, or its folder.")]) -> None:
    """The card of one model: scope, level of theory, errors, limits, citation.

    Example: `asesc models info quartz`
    """
    from rich.console import Console

    from asesc.cli.report import model_info
    from asesc.pretrained import model_card

    Console().print(model_info(model_card(name)))
