"""Potential and charge averaged over lattice planes: vacuum levels, work functions, dipole step."""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from scipy.interpolate import CubicSpline

from asesc.errors import InputError, PropertyUnavailableError
from asesc.workflows.evaluations import calculator_of, described
from asesc.workflows.figure import Path, finished
from asesc.workflows.landscape import fermi_level_of, landscape_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: V/Å; a field in the vacuum above which a work function depends on the distance.
_FLAT = 1e-3
#: Å of vacuum that is shown beyond the tails of the density.
_ROOM = 3.0


class TiltedVacuumWarning(UserWarning):
    """The potential is not constant in the vacuum, so that a level there depends on where."""


@dataclass(frozen=True)
class PotentialProfile:
    """φ̄(z) and ρ̄(z) along the normal of lattice planes.

    Parameters
    ----------
    heights : ndarray, (P,), Å
        z = r·n. Along an open axis from vacuum to vacuum, else over one period.
    potential : ndarray, (P,), V
        That of the self-consistency, for a positive test charge; with −E·r of a field along z.
    charge : ndarray, (P,), e/Å³
    area : float, Å²
        Of the cell's face.
    nuclei : tuple of 2 float, Å
        Heights of the lowest and the highest nucleus.
    period : float or None, Å
        None along an open axis.
    fermi_level : float or None, eV
        −∂E/∂Q where the calculator has it.
    title : str
    """

    heights: np.ndarray
    potential: np.ndarray
    charge: np.ndarray
    area: float
    nuclei: tuple[float, float]
    period: float | None
    fermi_level: float | None
    title: str

    @property
    def vacuum_fields(self) -> tuple[float, float]:
        """Field −dφ̄/dz below and above the slab, V/Å; ∓2πk_e Q/A and the applied one."""
        self._require_vacuum("a vacuum field")
        z, phi = self.heights, self.potential
        below, above = (-(phi[i + 1] - phi[i]) / (z[i + 1] - z[i]) for i in (0, -2))
        return float(below), float(above)

    @property
    def vacuum_levels(self) -> tuple[float, float]:
        """φ̄ in the vacuum below and above the slab, V.

        If the vacuum is not flat, its straight lines are followed to the outermost nuclei.
        """
        lowest, highest = self.nuclei
        return self.asymptotes(lowest)[0], self.asymptotes(highest)[1]

    def asymptotes(self, height: float) -> tuple[float, float]:
        """The straight lines of the lower and the upper vacuum, continued to a height, V."""
        below, above = self.vacuum_fields
        lower = self.potential[0] - below * (height - self.heights[0])
        upper = self.potential[-1] - above * (height - self.heights[-1])
        return float(lower), float(upper)

    @property
    def dipole_step(self) -> float:
        """Upper minus lower vacuum, 4πk_e μ_z/A, V; about the middle of the slab if not flat."""
        lower, upper = self.asymptotes(0.5 * sum(self.nuclei))
        return upper - lower

    @property
    def work_functions(self) -> tuple[float, float]:
        """Energies that take an electron to the vacuum below and above, −φ̄ − E_F, eV.

        Raises
        ------
        PropertyUnavailableError
            If the calculator has no Fermi level.

        Warns
        -----
        TiltedVacuumWarning
            If there is a field in the vacuum; the levels are then :attr:`vacuum_levels`.
        """
        below, above = self.vacuum_levels
        if self.fermi_level is None:
            raise PropertyUnavailableError(
                "a work function needs the Fermi level −∂E/∂Q, which this calculator does not "
                "have. The vacuum levels and the dipole step are known; a family that equilibrates "
                "charge (QEq, SplitChargeEquilibration) gives the level too"
            )
        field = max(self.vacuum_fields, key=abs)
        if abs(field) > _FLAT:
            warnings.warn(
                f"the vacuum is not flat ({field:+.3f} V/Å: an applied field, a charged slab or "
                "images), so that the work depends on how far the electron is taken; here it is "
                "taken to the straight continuation of the vacuum at the outermost nuclei",
                TiltedVacuumWarning,
                stacklevel=2,
            )
        return -below - self.fermi_level, -above - self.fermi_level

    def macroscopic(self, *periods: float) -> PotentialProfile:
        """Averaged over one period of the layers around every height; of two, over both in turn.

            f̿(z) = (1/a) ∫_(z−a/2)^(z+a/2) f̄(z') dz',

        which removes what repeats with a and leaves dipole steps and fields as they are.

        Parameters
        ----------
        *periods : float, Å
            Distances after which the atomic layers repeat; one of each side of an interface.

        References
        ----------
        A. Baldereschi, S. Baroni, R. Resta, Phys. Rev. Lett. 61, 734 (1988),
        doi:10.1103/PhysRevLett.61.734, eqs. 1 and 2.
        """
        if not periods or not all(a > 0 for a in periods):
            raise InputError(
                f"periods={periods}: give the distance in Å after which the atomic layers repeat"
            )
        potential, charge = self.potential, self.charge
        for a in periods:
            potential, charge = self._averaged(potential, a), self._averaged(charge, a)
        return replace(self, potential=potential, charge=charge)

    def _averaged(self, values: np.ndarray, window: float) -> np.ndarray:
        z, step = self.heights, self.heights[1] - self.heights[0]
        beyond = ceil(0.5 * window / step) + 2
        if self.period is None:
            out = step * np.arange(1, beyond + 1)
            first, last = values[1] - values[0], values[-1] - values[-2]
            left, right = values[0] - first * out[::-1] / step, values[-1] + last * out / step
            wide = np.concatenate([z[0] - out[::-1], z, z[-1] + out])
            extended = np.concatenate([left, values, right])
        else:
            index = np.arange(-beyond, len(z) + beyond)
            wide, extended = z[0] + step * index, values[index % len(z)]
        integral = CubicSpline(wide, extended).antiderivative()
        return (integral(z + 0.5 * window) - integral(z - 0.5 * window)) / window

    def to_csv(self, path: Path) -> None:
        """Heights, potential and charge as three columns with their units."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["height (Å)", "potential (V)", "charge (e/Å³)"])
            writer.writerows(zip(self.heights, self.potential, self.charge, strict=True))

    def plot(self, path: Path | None = None, *, periods: tuple[float, ...] = ()) -> list[Axes]:
        """Potential above, charge below; with the macroscopic average if periods are given."""
        upper, lower = _two_axes(path)
        upper.plot(self.heights, self.potential, lw=1.2, label="plane average")
        lower.plot(self.heights, self.charge, lw=1.2)
        if periods:
            smooth = self.macroscopic(*periods)
            upper.plot(self.heights, smooth.potential, lw=1.8, label="macroscopic average")
            lower.plot(self.heights, smooth.charge, lw=1.8)
        if self.period is None:
            self._mark_levels(upper)
        for axes in (upper, lower):
            axes.grid(alpha=0.25)
            if self.period is None:
                axes.axvspan(*self.nuclei, color="0.93", zorder=0)
        upper.margins(y=0.18)  # room for the legend
        upper.legend(fontsize=8, ncols=3)
        upper.set(ylabel="potential (V)")
        upper.set_title(self.title, fontsize=10)
        lower.set(xlabel="height (Å)", ylabel="charge (e/Å³)", xlim=self.heights[[0, -1]])
        finished(upper, path)
        return [upper, lower]

    def _mark_levels(self, axes: Axes) -> None:
        if self.fermi_level is not None:
            label = f"Fermi level, {self.fermi_level:.2f} eV"
            axes.axhline(-self.fermi_level, color="0.4", ls="--", lw=1, label=label)
        below, above = self.vacuum_levels
        for level, place, side in ((below, 0.01, "left"), (above, 0.99, "right")):
            axes.annotate(
                f"vacuum {level:.3f} V",
                (place, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 4),
                textcoords="offset points",
                ha=side,
                size=8,
            )

    def _require_vacuum(self, what: str) -> None:
        if self.period is not None:
            raise InputError(
                f"{what} needs a vacuum, but the structure repeats every {self.period:.3g} Å along "
                "this axis. Make it a slab: asesc.slabs.opened(atoms, axis)"
            )


def potential_profile(
    atoms: Atoms, *, axis: int | None = None, spacing: float = 0.05
) -> PotentialProfile:
    """Potential and charge of the self-consistency, averaged over the planes across an axis.

    Along an open axis the profile reaches from vacuum to vacuum, however large the cell is: images
    do not exist there, so that no vacuum can be too small. Along a periodic axis it is one period.

    Parameters
    ----------
    axis : int, optional
        Cell vector that does not lie in the planes; by default the open one of a slab.
    spacing : float, Å
        Of the heights, at most.

    Raises
    ------
    InputError
        If the other two directions do not repeat, or no axis is open and none is given.
    PropertyUnavailableError
        If the calculator has no landscape.
    """
    calc = calculator_of(atoms)
    if axis is None:
        axis = _open_axis(atoms)
    if not spacing > 0:
        raise InputError(f"spacing={spacing} Å must be positive")
    landscape = landscape_of(calc, atoms)
    normal = landscape.normal(axis)
    along = atoms.positions @ normal
    nuclei = (float(along.min()), float(along.max()))
    period = None
    if atoms.pbc[axis]:
        period = float(atoms.cell.array[axis] @ normal)
        heights = np.arange(n := ceil(period / spacing)) * (period / n)
    else:
        low, high = nuclei[0] - landscape.tail - _ROOM, nuclei[1] + landscape.tail + _ROOM
        heights = np.linspace(low, high, ceil((high - low) / spacing) + 1)
    return PotentialProfile(
        heights=heights,
        potential=landscape.average_potential(heights, axis=axis),
        charge=landscape.average_charge(heights, axis=axis),
        area=_area(atoms, axis),
        nuclei=nuclei,
        period=period,
        fermi_level=fermi_level_of(calc, atoms),
        title=described(atoms),
    )


def _open_axis(atoms: Atoms) -> int:
    open_axes = np.flatnonzero(~atoms.pbc)
    if len(open_axes) != 1:
        raise InputError(
            f"which axis? pbc={atoms.pbc.tolist()} has {len(open_axes)} open axes, and the profile "
            "of a slab is along its only one. Give axis=0, 1 or 2 for a crystal; make a slab with "
            "asesc.slabs.opened(atoms, axis)"
        )
    return int(open_axes[0])


def _area(atoms: Atoms, axis: int) -> float:
    first, second = atoms.cell.array[(axis + 1) % 3], atoms.cell.array[(axis + 2) % 3]
    return float(np.linalg.norm(np.cross(first, second)))


def _two_axes(path: Path | None) -> np.ndarray:
    size = {"figsize": (6.4, 5.0), "layout": "constrained"}
    if path is None:
        from matplotlib import pyplot

        figure = pyplot.figure(**size)
    else:
        from matplotlib.figure import Figure

        figure = Figure(**size)
    return figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2, 1]})
