"""What a charged defect's images and background add to its energy, and how to take it away."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import find_mic

from asesc.errors import InputError
from asesc.units import COULOMB
from asesc.workflows.figure import Path, axes_for, finished
from asesc.workflows.point_charges import PointChargeLattice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Scatter of the aligned potentials, V, above which a point charge does not describe the defect.
_UNEVEN = 0.1


class UnevenPotentialWarning(UserWarning):
    """Far from the defect the potential is not that of a point charge."""


@dataclass(frozen=True)
class FiniteSizeCorrection:
    """Energy to be added to that of a charged supercell.

    Parameters
    ----------
    charge : float, e
    point_charge : float, eV
        −q²·½V of a point charge, its images and the background in the dielectric: positive.
    alignment : float, eV
        −q times the mean difference of the potentials beyond ``radius``.
    distances : ndarray, (n,), Å
        Of the atoms from the defect.
    differences : ndarray, (n,), V
        Site potentials with the defect − without.
    model : ndarray, (n,), V
        What a point charge gives.
    radius : float, Å
    title : str
        Of the plot: defect and model.
    """

    charge: float
    point_charge: float
    alignment: float
    distances: np.ndarray
    differences: np.ndarray
    model: np.ndarray
    radius: float
    title: str = ""

    @property
    def energy(self) -> float:
        """The whole correction, eV."""
        return self.point_charge + self.alignment

    @property
    def scatter(self) -> float:
        """Standard deviation of what is averaged for the alignment, V."""
        far = self.distances > self.radius
        return float((self.differences - self.model)[far].std())

    def plot(self, path: Path | None = None, *, ax: Axes | None = None) -> Axes:
        """Potentials against the distance; their difference must be flat outside."""
        ax = axes_for(path, ax)
        ax.plot(self.distances, self.differences, "o", ms=4, label="with defect − without")
        ax.plot(self.distances, self.model, "o", ms=4, label="point charge")
        rest = self.differences - self.model
        ax.plot(self.distances, rest, "x", ms=5, color="0.3", label="their difference")
        end = 1.02 * self.distances.max()
        ax.axvspan(self.radius, end, color="0.93", zorder=0, label="where it is averaged")
        ax.axhline(0, color="0.5", lw=0.8)
        ax.set(xlabel="distance from the defect (Å)", ylabel="site potential (V)", xlim=(0, end))
        numbers = (
            f"charge {self.charge:+g} e: point charge {_signed(self.point_charge)} eV, "
            f"alignment {_signed(self.alignment)} eV"
        )
        ax.set_title(_lines(self.title, numbers), fontsize=10)
        # Where the potential of a point charge leaves room.
        ax.legend(fontsize=8, loc="upper right" if self.charge > 0 else "lower right")
        return finished(ax, path)


def kumagai_correction(
    charge: float,
    *,
    cell: np.ndarray,
    displacements: np.ndarray,
    differences: np.ndarray,
    dielectric: np.ndarray,
    title: str = "",
) -> FiniteSizeCorrection:
    """Extended Freysoldt–Neugebauer–Van de Walle correction (eFNV) from site potentials.

        E_corr = −½q² V_0 − q ⟨ΔV_i − q V(r_i)⟩_far

    V is the potential of a unit point charge per cell, screened by ε, and V_0 that of its images
    and background where it is; ΔV are potentials for a positive charge. The mean runs over the
    atoms outside the largest sphere that fits between opposite faces of the cell.

    Parameters
    ----------
    charge : float, e
        q of the cell.
    cell : (3, 3), Å
    displacements : (n, 3), Å
        From the defect to the atoms that both cells have.
    differences : (n,), V
        Their site potentials, with the defect − without.
    dielectric : (3, 3) or float
        Static tensor for relaxed ions, ε∞ for clamped ones.
    title : str
        Of the plot.

    Raises
    ------
    InputError
        If no atom is far enough, or ε screens like a metal's.

    Warns
    -----
    UnevenPotentialWarning
        If the far differences scatter by more than 0.1 V.

    Notes
    -----
    The terms 1/L are exact. At L⁻³ errors of order 2πk_e q²s²/(εV) remain, with s² the difference
    of the second moments of the real and the assumed response: see the extrapolation.

    References
    ----------
    Y. Kumagai, F. Oba, Phys. Rev. B 89, 195205 (2014), doi:10.1103/PhysRevB.89.195205, eqs. 7–14.
    """
    cell = np.asarray(cell, dtype=float)
    vectors, distances = find_mic(np.asarray(displacements, dtype=float), cell)
    radius = _sphere(cell)
    far = distances > radius
    if not far.any():
        raise InputError(
            f"no atom is further than {radius:.2f} Å from the defect, so that its potential cannot "
            "be aligned with the crystal's; use a larger supercell"
        )
    lattice = PointChargeLattice(cell, dielectric)
    model = charge * lattice.potential(vectors)
    differences = np.asarray(differences, dtype=float)
    rest = (differences - model)[far]
    correction = FiniteSizeCorrection(
        charge=charge,
        point_charge=-(charge**2) * lattice.energy,
        alignment=-charge * float(rest.mean()),
        distances=distances,
        differences=differences,
        model=model,
        radius=radius,
        title=title,
    )
    _warn_if_uneven(correction)
    return correction


def _warn_if_uneven(correction: FiniteSizeCorrection) -> None:
    if correction.scatter > _UNEVEN:
        warnings.warn(
            f"far from the defect of charge {correction.charge:+g} the site potentials scatter by "
            f"{correction.scatter:.2f} V about those of a point charge: the cell is too small, the "
            "charge is spread over it, or the dielectric tensor is not the model's. Plot the "
            "correction, and extrapolate",
            UnevenPotentialWarning,
            stacklevel=3,
        )


def _sphere(cell: np.ndarray) -> float:
    """Half the largest distance between opposite faces, Å."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return 0.5 * float(heights.max())


@dataclass(frozen=True)
class Extrapolation:
    """Energies of one defect in growing cells of one shape, and their limit.

    Parameters
    ----------
    charge : float, e
    lengths : ndarray, (n,), Å
        Cube roots L of the volumes.
    energies : ndarray, (n,), eV
        Without any correction.
    corrected : ndarray, (n,), eV or None
        With the correction of each cell.
    madelung : float
        E = −k_e q² madelung/(2εL) of a point charge in this shape of cell, 2.837 for a cube.
    title : str
        Of the plot: defect and model.
    """

    charge: float
    lengths: np.ndarray
    energies: np.ndarray
    corrected: np.ndarray | None
    madelung: float
    title: str = ""

    @property
    def coefficients(self) -> np.ndarray:
        """E = c₀ + c₁/L + c₃/L³ by least squares through the uncorrected energies, (3,)."""
        inverse = 1.0 / self.lengths
        table = np.stack([np.ones_like(inverse), inverse, inverse**3], axis=1)
        if self.charge == 0:
            table[:, 1] = 0.0
        return np.linalg.lstsq(table, self.energies, rcond=None)[0]

    @property
    def limit(self) -> float:
        """Energy of the isolated defect, c₀, eV."""
        return float(self.coefficients[0])

    @property
    def dielectric(self) -> float:
        """Screening that the slope c₁ means, to be compared with the model's ε; inf if none."""
        slope = self.coefficients[1]
        return float(-(self.charge**2) * COULOMB * self.madelung / (2 * slope)) if slope else np.inf

    def plot(self, path: Path | None = None, *, ax: Axes | None = None) -> Axes:
        """Energies against 1/L, the fit, and what the correction makes of every cell."""
        ax = axes_for(path, ax)
        inverse = 1.0 / self.lengths
        ax.plot(inverse, self.energies, "o", label="supercells")
        x = np.linspace(0, 1.05 * inverse.max(), 100)
        c0, c1, c3 = self.coefficients
        ax.plot(x, c0 + c1 * x + c3 * x**3, color="C0", lw=1, label="c₀ + c₁/L + c₃/L³")
        ax.plot(0, self.limit, "*", ms=10, color="C0", label=f"limit {self.limit:.3f} eV")
        if self.corrected is not None:
            ax.plot(inverse, self.corrected, "s", color="C1", label="with correction")
        ax.set(xlabel="1/L (1/Å)", ylabel="energy with − without the defect (eV)")
        ax.set_xlim(left=-0.003)
        state = f"charge {self.charge:+g} e" if self.charge else "neutral"
        screening = f", images screened by {self.dielectric:.3g}" if self.charge else ""
        ax.set_title(_lines(self.title, state + screening), fontsize=10)
        ax.legend(fontsize=8)
        ax.grid(alpha=0.25)
        return finished(ax, path)


def _signed(energy: float) -> str:
    """With a sign as wide as a plus."""
    return f"{energy:+.3f}".replace("-", "−")


def _lines(title: str, numbers: str) -> str:
    return f"{title}\n{numbers}" if title else numbers
