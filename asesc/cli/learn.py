"""``asesc train`` and ``asesc evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[
        Path, typer.Argument(help="YAML file; see tutorials/04_train_a_small_model.py.")
    ],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of resuming a checkpoint.")
    ] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a model; called again, an interrupted run goes on from its last epoch.

    Example: `asesc train nma.yaml`
    """
    from rich.console import Console

    from asesc.cli.report import model_info
    from asesc.training import read_config
    from asesc.training import train as run_training

    try:
        card = run_training(read_config(config), resume=not fresh, progress=progress)
    except SystemExit:
        # What Lightning makes of Ctrl-C.
        advice = f"stopped; `asesc train {config}` goes on from the last complete epoch, if any"
        typer.secho(advice, fg="yellow", err=True)
        raise
    # Only one process of a distributed run has written the model and completed its card.
    if card.sha256:
        Console().print(model_info(card))


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a model, or its folder.")],
    data: Annotated[Path, typer.Argument(help="Labelled structures that ASE reads.")],
    prefix: Annotated[str, typer.Option(help="Prefix of the labels' names.")] = "REF_",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first frames.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Structures per batch.")] = 4,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    plot: Annotated[Path | None, typer.Option(help="Parity plot to write.")] = None,
) -> None:
    """Errors of a model per label, and a parity plot.

    Example: `asesc evaluate quartz valid.xyz --plot parity.png`
    """
    from rich.console import Console

    from asesc.cli.report import error_table
    from asesc.errors import InputError
    from asesc.pretrained import load_model
    from asesc.training import evaluate_frames, plot_parity, read_frames
    from asesc.training.data import check_structures

    path = _drawable(plot or Path(f"{Path(model).resolve().name}-parity.png"))
    frames = read_frames(data, prefix=prefix, limit=limit)
    if not any(frame.labels for frame in frames):
        raise InputError(
            f"{data} has no label named {prefix}energy, {prefix}forces, …; see --prefix"
        )
    opened = load_model(model, dtype=dtype)
    check_structures(frames, opened.elements, data.name)
    errors = evaluate_frames(opened, frames, batch_size=batch_size)
    if not errors:
        raise InputError(f"{model} has nothing to compare with the labels of {data}")
    console = Console()
    console.print(error_table(errors, f"{model} on {data.name}, {len(frames)} frames, {dtype}"))
    plot_parity(errors, path, title=f"{model} on {data.name}")
    console.print(f"wrote {path}")


def _drawable(path: Path) -> Path:
    """The path of a plot, refused before anything is computed if nothing can be drawn there."""
    from matplotlib.figure import Figure

    from asesc.errors import InputError

    formats = Figure().canvas.get_supported_filetypes()
    path = path if path.suffix else path.with_suffix(".png")
    if path.suffix[1:].lower() not in formats:
        raise InputError(f"--plot {str(path)!r} is no picture; end it with .png, .pdf or .svg")
    if not path.parent.is_dir():
        raise InputError(f"--plot {str(path)!r}: there is no folder {str(path.parent)!r}")
    return path
