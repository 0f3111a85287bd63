"""Where a plot goes: into axes that were given, into a file, or onto the screen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Path = str | os.PathLike[str]


def axes_for(path: Path | None, ax: Axes | None, *, size: tuple[float, float] = (6.4, 3.8)) -> Axes:
    """The given axes, or new ones: known to pyplot only if they are to be shown."""
    if ax is not None:
        return ax
    if path is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=size, layout="constrained")[1]
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained").subplots()


def finished(ax: Axes, path: Path | None) -> Axes:
    """Write the figure if a path was given."""
    if path is not None:
        ax.figure.savefig(path, dpi=150)
    return ax
