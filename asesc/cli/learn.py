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

    card = run_training(read_config(config), resume=not fresh, progress=progress)
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

    frames = read_frames(data, prefix=prefix, limit=limit)
    if not any(frame.labels for frame in frames):
        raise InputError(
            f"{data} has no label named {prefix}energy, {prefix}forces, …; see --prefix"
        )
    errors = evaluate_frames(load_model(model, dtype=dtype), frames, batch_size=batch_size)
    console = Console()
    console.print(error_table(errors, f"{model} on {data.name}, {len(frames)} frames, {dtype}"))
    path = plot or Path(f"{Path(model).name}-parity.png")
    plot_parity(errors, path, title=f"{model} on {data.name}")
    console.print(f"wrote {path}")
