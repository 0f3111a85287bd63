"""Band structure, density of states and thermal properties of a Phonopy object, with plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from phonopy import Phonopy

from asesc.workflows.figure import Path, axes_for, finished
from asesc.workflows.modes import NOISE, PER_THZ

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PER_MOLE = units.mol / units.kJ  # kJ/mol in 1 eV


@dataclass(frozen=True)
class Bands:
    """Wave numbers along a path through the Brillouin zone.

    Parameters
    ----------
    distances : tuple of ndarray, (n,), Å⁻¹
        Per segment, continued from one to the next, without 2π.
    wavenumbers : tuple of ndarray, (n, 3N), cm⁻¹
        Negative where imaginary. At Γ with the LO-TO splitting of the segment's direction.
    ticks : tuple of (float, str)
        Where the special points are, and their names.
    title : str
    """

    distances: tuple[np.ndarray, ...]
    wavenumbers: tuple[np.ndarray, ...]
    ticks: tuple[tuple[float, str], ...]
    title: str

    def plot(self, path: Path | None = None, *, ax: Axes | None = None) -> Axes:
        """Bands in cm⁻¹ with THz on the other side; imaginary ones below zero."""
        alone = ax is None
        ax = axes_for(path, ax)
        for distance, values in zip(self.distances, self.wavenumbers, strict=True):
            ax.plot(distance, values, color="C0", lw=1)
        for position, _ in self.ticks:
            ax.axvline(position, color="0.7", lw=0.6)
        lowest = min(float(values.min()) for values in self.wavenumbers)
        if lowest < -NOISE:
            ax.axhspan(1.1 * lowest, 0, color="C3", alpha=0.12, lw=0, label="imaginary")
            ax.legend(loc="best", fontsize=8)
        ax.set_ylim(bottom=1.1 * lowest if lowest < -NOISE else 0)
        ax.set_xticks([p for p, _ in self.ticks], [name for _, name in self.ticks])
        ax.set(ylabel="wave number (cm⁻¹)", xlim=(self.distances[0][0], self.distances[-1][-1]))
        ax.set_title(self.title, fontsize=10)
        if alone:
            scale = (lambda x: x / PER_THZ, lambda x: x * PER_THZ)
            ax.secondary_yaxis("right", functions=scale).set_ylabel("frequency (THz)")
        return finished(ax, path)


@dataclass(frozen=True)
class DensityOfStates:
    """Vibrational density of states per primitive cell.

    Parameters
    ----------
    wavenumbers : ndarray, (n,), cm⁻¹
    total : ndarray, (n,), states per cm⁻¹
        Integrates to 3N.
    projected : dict of str to ndarray
        The part of every element.
    title : str
    """

    wavenumbers: np.ndarray
    total: np.ndarray
    projected: dict[str, np.ndarray]
    title: str

    def plot(
        self, path: Path | None = None, *, ax: Axes | None = None, upright: bool = False
    ) -> Axes:
        """Total and per element; ``upright`` swaps the axes, to stand beside bands."""
        ax = axes_for(path, ax)
        curves = {"total": self.total, **self.projected}
        for name, values in curves.items():
            style = {"color": "0.2", "lw": 1.2} if name == "total" else {"lw": 1}
            across, up = (values, self.wavenumbers) if upright else (self.wavenumbers, values)
            ax.plot(across, up, label=name, **style)
        if upright:
            ax.set(xlabel="states per cm⁻¹", xlim=(0, None))
            ax.locator_params(axis="x", nbins=3)
        else:
            ax.set(xlabel="wave number (cm⁻¹)", ylabel="states per cm⁻¹ and cell", ylim=(0, None))
            ax.set_title(self.title, fontsize=10)
        ax.legend(fontsize=8)
        return finished(ax, path)


@dataclass(frozen=True)
class ThermalProperties:
    """Harmonic thermodynamics per primitive cell at fixed volume.

    Parameters
    ----------
    temperatures : ndarray, (n,), K
    free_energy : ndarray, (n,), eV
        With the zero-point energy.
    entropy, heat_capacity : ndarray, (n,), eV/K
    n_atoms : int
        In the primitive cell.
    title : str
    """

    temperatures: np.ndarray
    free_energy: np.ndarray
    entropy: np.ndarray
    heat_capacity: np.ndarray
    n_atoms: int
    title: str

    @property
    def zero_point_energy(self) -> float:
        """Free energy at 0 K, eV; the series must begin there."""
        return float(self.free_energy[0])

    def plot(self, path: Path | None = None, *, ax: Axes | None = None) -> Axes:
        """Heat capacity and entropy in k_B per atom, free energy in meV per atom."""
        ax = axes_for(path, ax)
        per_atom = 1 / (units.kB * self.n_atoms)
        ax.plot(self.temperatures, per_atom * self.heat_capacity, label="heat capacity $C_V$")
        ax.plot(self.temperatures, per_atom * self.entropy, label="entropy $S$")
        ax.axhline(3, color="0.6", ls="--", lw=0.8, label="3 $k_B$ (Dulong–Petit)")
        ax.set(xlabel="temperature (K)", ylabel="$k_B$ per atom", ylim=(0, None))
        ax.set_xlim(self.temperatures[0], self.temperatures[-1])
        right = ax.twinx()
        energies = 1e3 * self.free_energy / self.n_atoms
        right.plot(self.temperatures, energies, color="C3", label="free energy $F$")
        right.set_ylabel("$F$ (meV per atom)", color="C3")
        right.set_ylim(top=energies.max() + 0.35 * max(np.ptp(energies), 1.0))
        lines = [*ax.lines, *right.lines]
        ax.set_ylim(top=1.35 * max(3.0, float(per_atom * self.entropy.max())))
        names = [str(line.get_label()) for line in lines]
        ax.legend(lines, names, fontsize=8, ncols=2, loc="upper center")
        ax.set_title(self.title, fontsize=10)
        return finished(ax, path)


def band_structure(ph: Phonopy, *, points: int = 101) -> Bands:
    """Bands along the recommended path of the crystal's Bravais lattice (seekpath).

    The path is expressed in the primitive cell as it is, whatever its choice of axes.
    Hinuma, Pizzi, Kumagai, Oba, Tanaka, Comput. Mater. Sci. 128, 140 (2017),
    doi:10.1016/j.commatsci.2016.10.015.

    Parameters
    ----------
    points : int
        On the longest segment; the others have the same density.
    """
    from seekpath import get_path_orig_cell

    found = get_path_orig_cell(ph.primitive.totuple())
    reciprocal = np.linalg.inv(ph.primitive.cell).T
    ends = [[np.array(found["point_coords"][name]) for name in pair] for pair in found["path"]]
    lengths = [float(np.linalg.norm((end - start) @ reciprocal)) for start, end in ends]
    segments = []
    for (start, end), length in zip(ends, lengths, strict=True):
        fractions = np.linspace(0, 1, max(2, round(points * length / max(lengths))))
        segments.append(start + fractions[:, None] * (end - start))
    result = ph.run_band_structure(segments)
    distances = tuple(np.array(d) for d in result.distances)
    ticks: dict[float, list[str]] = {}
    for distance, pair in zip(distances, found["path"], strict=True):
        for position, name in zip(distance[[0, -1]], pair, strict=True):
            shared = ticks.setdefault(round(float(position), 9), [])
            shared += [_named(name)] if _named(name) not in shared else []
    return Bands(
        distances,
        tuple(PER_THZ * np.array(f) for f in result.frequencies),
        tuple((position, "|".join(names)) for position, names in ticks.items()),
        title_of(ph),
    )


def _named(point: str) -> str:
    """A special point as matplotlib writes it: GAMMA is Γ, H_2 has a subscript."""
    return "Γ" if point == "GAMMA" else f"${point}$" if "_" in point else point


def density_of_states(
    ph: Phonopy, *, mesh: float | Sequence[int] = 60.0, width: float = 6.0
) -> DensityOfStates:
    """Total density of states and the part of every element.

    Parameters
    ----------
    mesh : float, Å, or three integers
        Sampling of the Brillouin zone: a length that the mesh resolves, or its divisions.
    width : float, cm⁻¹
        Standard deviation of the Gaussian that smooths the sampled frequencies.
    """
    sampled = ph.run_mesh(mesh, with_eigenvectors=True, is_gamma_center=True)
    frequencies = PER_THZ * np.array(sampled.frequencies)
    # A point stands for its star: symmetry exchanges atoms of one element only.
    weights = np.array(sampled.weights) / np.sum(sampled.weights)
    squares = np.abs(np.array(sampled.eigenvectors)) ** 2
    by_atom = squares.reshape(len(weights), len(ph.primitive), 3, -1).sum(axis=2)
    low = float(frequencies.min())
    start = low - 4 * width if low < -NOISE else 0.0
    grid = np.arange(start, frequencies.max() + 5 * width, 1.0)
    symbols = np.array(ph.primitive.symbols)
    projected = {str(symbol): np.zeros(len(grid)) for symbol in dict.fromkeys(symbols)}
    for values, atoms, weight in zip(frequencies, by_atom, weights, strict=True):
        peaks = np.exp(-0.5 * ((grid[:, None] - values) / width) ** 2)
        for symbol, curve in projected.items():
            curve += weight * peaks @ atoms[symbols == symbol].sum(axis=0)
    norm = 1 / (width * np.sqrt(2 * np.pi))
    projected = {symbol: norm * curve for symbol, curve in projected.items()}
    return DensityOfStates(grid, sum(projected.values()), projected, title_of(ph))


def thermal_properties(
    ph: Phonopy,
    temperatures: Sequence[float] | None = None,
    *,
    mesh: float | Sequence[int] = 60.0,
) -> ThermalProperties:
    """Free energy, entropy and heat capacity of the harmonic crystal.

    Parameters
    ----------
    temperatures : sequence of float, K
        By default 0 to 1000 K.
    """
    chosen = np.linspace(0, 1000, 101) if temperatures is None else np.asarray(temperatures)
    ph.run_mesh(mesh, is_gamma_center=True)
    result = ph.run_thermal_properties(temperatures=chosen, exclude_gamma_acoustic=True)
    return ThermalProperties(
        np.array(result.temperatures),
        np.array(result.free_energy) / _PER_MOLE,
        np.array(result.entropy) / _PER_MOLE / 1e3,
        np.array(result.heat_capacity) / _PER_MOLE / 1e3,
        len(ph.primitive),
        title_of(ph),
    )


def title_of(ph: Phonopy) -> str:
    """Formula, model and supercell, as ``phonons`` noted them; the formula of a foreign object."""
    return getattr(ph, "asesc_title", ph.primitive.formula)


def plot_bands_and_dos(ph: Phonopy, path: Path) -> None:
    """Bands with the density of states beside them, in one file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    band_structure(ph).plot(ax=left)
    density_of_states(ph).plot(ax=right, upright=True)
    scale = (lambda x: x / PER_THZ, lambda x: x * PER_THZ)
    right.secondary_yaxis("right", functions=scale).set_ylabel("frequency (THz)")
    figure.savefig(path, dpi=150)
