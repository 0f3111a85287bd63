"""Lines and curves over wave numbers: broadening, peaks, plots, CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import pi
from typing import TYPE_CHECKING

import numpy as np

from asesc.errors import InputError
from asesc.workflows.figure import Path, axes_for, finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Spectrum:
    """A curve over wave numbers.

    Parameters
    ----------
    wavenumbers : ndarray, (n,), cm⁻¹
    intensities : ndarray, (n,)
    quantity, unit : str
        What the intensities are.
    title : str
    """

    wavenumbers: np.ndarray
    intensities: np.ndarray
    quantity: str
    unit: str
    title: str

    def peaks(self, *, threshold: float = 0.02) -> np.ndarray:
        """Wave numbers of local maxima above a fraction of the highest, ascending, cm⁻¹."""
        height, grid = self.intensities, self.wavenumbers
        inner = (height[1:-1] > height[:-2]) & (height[1:-1] >= height[2:])
        tall = height[1:-1] > threshold * height.max()
        return grid[1:-1][inner & tall]

    def integral(self, low: float = 0.0, high: float = np.inf) -> float:
        """Area between two wave numbers; its unit is that of the intensities times cm⁻¹."""
        mask = (self.wavenumbers >= low) & (self.wavenumbers <= high)
        return float(np.trapezoid(self.intensities[mask], self.wavenumbers[mask]))

    def plot(
        self,
        path: Path | None = None,
        *,
        limits: tuple[float, float] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """The curve with its highest peaks named.

        Parameters
        ----------
        limits : (2,), cm⁻¹
            Range shown; by default up to where the curve has died out.
        """
        ax = axes_for(path, ax)
        low, high = limits or (0.0, _end(self.wavenumbers, self.intensities))
        ax.plot(self.wavenumbers, self.intensities, color="C0", lw=1.2)
        ax.set(xlabel="wave number (cm⁻¹)", ylabel=f"{self.quantity} ({self.unit})")
        ax.set_title(self.title, fontsize=10)
        shown = (self.wavenumbers >= low) & (self.wavenumbers <= high)
        part = Spectrum(self.wavenumbers[shown], self.intensities[shown], "", "", "")
        # Room for the names of the peaks; nothing else may be higher.
        top = 1.12 * float(part.intensities.max(initial=0.0))
        ax.set(xlim=(low, high), ylim=(0, top or None))
        _name_peaks(ax, part)
        return finished(ax, path)

    def to_csv(self, path: Path) -> None:
        """Two columns under a commented title and a header with units."""
        columns = {
            "wavenumber (cm^-1)": self.wavenumbers,
            f"{self.quantity} ({self.unit})": self.intensities,
        }
        write_csv(path, columns, self.title)


@dataclass(frozen=True)
class LineSpectrum:
    """Harmonic modes and their intensities.

    Parameters
    ----------
    wavenumbers : ndarray, (M,), cm⁻¹
        Ascending; negative where imaginary. Imaginary modes are listed, but not drawn.
    intensities : ndarray, (M,)
    quantity, unit : str
        What the intensities are, e.g. ``"absorption"`` in ``"km/mol"``.
    title : str
    details : mapping of str to ndarray, (M,)
        Further columns of the CSV file.
    """

    wavenumbers: np.ndarray
    intensities: np.ndarray
    quantity: str
    unit: str
    title: str
    details: Mapping[str, np.ndarray] = field(default_factory=dict)

    def broadened(self, *, width: float = 10.0, wavenumbers: np.ndarray | None = None) -> Spectrum:
        """Lorentzians of the given full width at half maximum, each of the area of its line.

        Parameters
        ----------
        width : float, cm⁻¹
        wavenumbers : ndarray, (n,), cm⁻¹, optional
            Where to evaluate; by default from 0 to beyond the last line.
        """
        if not width > 0:
            raise InputError(f"width={width!r} must be positive, cm⁻¹")
        real = self.wavenumbers > 0
        top = float(self.wavenumbers.max(initial=0.0)) + 20 * width
        grid = np.arange(0.0, top, width / 10) if wavenumbers is None else wavenumbers
        half = width / 2
        away = np.asarray(grid)[:, None] - self.wavenumbers[real]
        curve = (half / pi / (away**2 + half**2)) @ self.intensities[real]
        return Spectrum(grid, curve, self.quantity, f"{self.unit} per cm⁻¹", self.title)

    def plot(
        self,
        path: Path | None = None,
        *,
        width: float = 10.0,
        limits: tuple[float, float] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Broadened curve, with sticks as high as the curve each line alone would give.

        Parameters
        ----------
        width : float, cm⁻¹
        limits : (2,), cm⁻¹
        """
        ax = axes_for(path, ax)
        curve = self.broadened(width=width)
        real = self.wavenumbers > 0
        heights = 2 / (pi * width) * self.intensities[real]
        ax.vlines(self.wavenumbers[real], 0, heights, color="C1", lw=1.5, label="modes")
        bounds = limits or (0.0, float(curve.wavenumbers[-1]))
        curve.plot(ax=ax, limits=bounds)
        ax.lines[-1].set_label(f"width {width:g} cm⁻¹")
        ax.legend(fontsize=8)
        return finished(ax, path)

    def to_csv(self, path: Path) -> None:
        """One row per mode under a commented title and a header with units."""
        columns = {
            "wavenumber (cm^-1, negative: imaginary)": self.wavenumbers,
            f"{self.quantity} ({self.unit})": self.intensities,
            **self.details,
        }
        write_csv(path, columns, self.title)


def write_csv(path: Path, columns: Mapping[str, np.ndarray], title: str) -> None:
    """Columns of equal length, named with their units, under a line ``# title``."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(f"# {title}\n")
        writer = csv.writer(file)
        writer.writerow(columns)
        rows = zip(*columns.values(), strict=True)
        writer.writerows([f"{value:.8g}" for value in row] for row in rows)


def _end(grid: np.ndarray, curve: np.ndarray) -> float:
    """Where the last thousandth of the area begins, with a margin."""
    area = np.cumsum(np.abs(curve))
    if area[-1] == 0:
        return float(grid[-1])
    return min(float(grid[-1]), 1.1 * float(grid[np.searchsorted(area, 0.999 * area[-1])]) + 50)


def _name_peaks(ax: Axes, curve: Spectrum, most: int = 8) -> None:
    """Write the wave numbers of the highest peaks above them, not onto each other."""
    span = np.ptp(curve.wavenumbers)
    heights = dict(zip(curve.wavenumbers, curve.intensities, strict=True))
    named: list[float] = []
    for peak in sorted(curve.peaks(), key=lambda p: -heights[p]):
        if len(named) < most and all(abs(peak - other) > 0.04 * span for other in named):
            named.append(peak)
            ax.annotate(
                f"{peak:.0f}",
                (peak, heights[peak]),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
