"""The command line: one file per command, or per few; ``asesc --help`` lists them.

Commands import what they need when they run, so that ``asesc --help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from asesc import __version__
from asesc.allocator import keep_freed_memory
from asesc.cli.defect import defect
from asesc.cli.doctor import doctor
from asesc.cli.learn import evaluate, train
from asesc.cli.models import models
from asesc.cli.phonons import phonons
from asesc.cli.run import run
from asesc.cli.slab import slab
from asesc.cli.spectra import spectra
from asesc.errors import AsescError

app = typer.Typer(
    help="Machine-learning potentials with self-consistent electrostatics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
app.command()(run)
app.add_typer(models, name="models")
app.command()(doctor)
app.command()(train)
app.command()(evaluate)
app.command()(phonons)
app.command()(spectra)
app.command()(slab)
app.command()(defect)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_version, is_eager=True
    ),
) -> None:
    pass


def main() -> None:
    """Entry point: our own errors and those of files end as one message and exit code 2."""
    keep_freed_memory()
    with warnings.catch_warnings():
        warnings.showwarning = _tell
        try:
            app()
        except (AsescError, OSError) as error:
            typer.secho(f"error: {_in_words_of_the_shell(str(error))}", fg="red", err=True)
            sys.exit(2)


def _tell(message: Warning | str, *_: Any) -> None:
    """A warning without the line of code that gave it, of which the shell knows nothing."""
    typer.secho(f"warning: {_in_words_of_the_shell(str(message))}", fg="yellow", err=True)


#: Names that messages give to parameters, and the options that set them.
_OPTIONS = {
    " e (from calculator)": " e (from --charge)",
    " V/Å (from calculator)": " V/Å (from --field)",
    "2S+1, from calculator": "2S+1, from --spin",
    "allow_extrapolation=True": "--allow-extrapolation",
    "If it is meant, pass allow_fractional_charge=True to the calculator": (
        "If it is meant, take SCCalculator(…, allow_fractional_charge=True) in Python"
    ),
    "kernels='": "--kernels '",
    "nac=False": "--no-nac",
    "dielectric=…": "--dielectric",
    "correction=None with extrapolate=(2, 3, 4)": "--no-correct with --extrapolate 2,3,4",
    "axis=0, 1 or 2": "--axis a, b or c",
    "asesc.slabs.opened(atoms, axis)": "--open and --axis",
}


def _in_words_of_the_shell(message: str) -> str:
    for parameter, option in _OPTIONS.items():
        message = message.replace(parameter, option)
    return message


__all__ = ["app", "main"]
