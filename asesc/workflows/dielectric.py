"""Polar modes at Γ: oscillator strengths, static dielectric tensor, LO-TO splitting, ε(ω)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import TYPE_CHECKING

import numpy as np
from phonopy import Phonopy

from asesc.errors import IllPosedError, InputError
from asesc.units import COULOMB
from asesc.workflows.figure import Path, axes_for, finished
from asesc.workflows.modes import NOISE, WAVENUMBER, wavenumbers_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Modes nearer than this, cm⁻¹, are taken as degenerate.
_DEGENERATE = 0.05

#: A mode is polar if its part of ω_p² is larger than this fraction of the whole.
_POLAR = 1e-7


@dataclass(frozen=True)
class Splitting:
    """One polar mode seen along one direction of the wave vector.

    Parameters
    ----------
    direction : (3,)
        Cartesian unit vector q/|q|.
    transverse, longitudinal : float, cm⁻¹
    """

    direction: tuple[float, float, float]
    transverse: float
    longitudinal: float


@dataclass(frozen=True)
class DielectricResponse:
    """Response of a crystal to a macroscopic field, by electrons and by ions.

        ε(ω) = ε∞ + (4π k_e/V) Σ_m S_m/(ω_m² − ω² − iγω),   S_m,ab = Z_m,a Z_m,b

    Gonze, Lee, Phys. Rev. B 55, 10355 (1997), doi:10.1103/PhysRevB.55.10355, Eqs. 53–58.

    Parameters
    ----------
    high_frequency : ndarray, (3, 3)
        ε∞, clamped ions.
    wavenumbers : ndarray, (M,), cm⁻¹
        Transverse optical modes at Γ, 3N − 3, ascending; negative where imaginary.
    mode_charges : ndarray, (M, 3), e/√amu
        Z_m,a = Σ_ib Z*_i,ab e_m,ib/√m_i.
    volume : float, Å³
        Of the primitive cell.
    title : str
    """

    high_frequency: np.ndarray
    wavenumbers: np.ndarray
    mode_charges: np.ndarray
    volume: float
    title: str

    @property
    def oscillator_strengths(self) -> np.ndarray:
        """S_m,ab = Z_m,a Z_m,b of every mode, (M, 3, 3), e²/amu."""
        return self.mode_charges[:, :, None] * self.mode_charges[:, None, :]

    @cached_property
    def contributions(self) -> np.ndarray:
        """What every mode adds to the static dielectric tensor, (M, 3, 3); zero if not polar.

        Raises
        ------
        IllPosedError
            If a polar mode is imaginary or zero: the crystal is not a minimum.
        """
        strengths = self._plasma * self.oscillator_strengths
        polar = np.trace(strengths, axis1=1, axis2=2) > _POLAR * self._total
        unstable = self.wavenumbers[polar & (self.wavenumbers < NOISE)]
        if unstable.size:
            raise IllPosedError(
                f"a polar mode is at {unstable[0]:.1f} cm⁻¹ (negative: imaginary): the static "
                "dielectric tensor does not exist about this structure. Relax it, or follow the "
                "mode to the polar minimum"
            )
        squared = np.where(polar, self.wavenumbers, np.inf) ** 2
        return strengths / squared[:, None, None]

    @property
    def static(self) -> np.ndarray:
        """ε0 = ε∞ + ionic part, at fixed cell, (3, 3).

        Raises
        ------
        IllPosedError
            See :attr:`contributions`.
        """
        return self.high_frequency + self.contributions.sum(axis=0)

    @property
    def _plasma(self) -> float:
        """4π k_e/V in cm⁻² per e²/amu: strengths become squared plasma wave numbers."""
        return 4 * pi * COULOMB / self.volume * WAVENUMBER**2

    @property
    def _total(self) -> float:
        return max(self._plasma * float((self.mode_charges**2).sum()), 1e-30)

    def longitudinal(self, direction: Sequence[float]) -> np.ndarray:
        """All optical wave numbers for q → 0 along a Cartesian direction, (M,), cm⁻¹."""
        unit = _unit(direction)
        along = self.mode_charges @ unit
        signed = np.sign(self.wavenumbers) * self.wavenumbers**2
        screening = unit @ self.high_frequency @ unit
        matrix = np.diag(signed) + self._plasma / screening * np.outer(along, along)
        values = np.linalg.eigvalsh(matrix)
        return np.sign(values) * np.sqrt(np.abs(values))

    def splittings(self, direction: Sequence[float]) -> list[Splitting]:
        """TO and LO wave numbers of the modes that are polar along a Cartesian direction.

        The longitudinal field adds one positive rank-one term to the dynamical matrix, so that
        TO and LO frequencies of the coupled modes alternate and are paired in order.
        """
        unit = _unit(direction)
        coupled = np.array(list(self._coupled(unit)))
        if not coupled.size:
            return []
        squared = np.sign(coupled[:, 0]) * coupled[:, 0] ** 2
        screening = unit @ self.high_frequency @ unit
        roots = np.sqrt(self._plasma * coupled[:, 1] / screening)
        values = np.linalg.eigvalsh(np.diag(squared) + np.outer(roots, roots))
        upper = np.sign(values) * np.sqrt(np.abs(values))
        named = (float(unit[0]), float(unit[1]), float(unit[2]))
        pairs = zip(coupled[:, 0], upper, strict=True)
        return [Splitting(named, float(low), float(high)) for low, high in pairs]

    def _coupled(self, unit: np.ndarray) -> Iterator[tuple[float, float]]:
        """(wave number, Σ(q·Z)²) of every degenerate set that is polar along a direction."""
        squared = (self.mode_charges @ unit) ** 2
        breaks = np.flatnonzero(np.diff(self.wavenumbers) > _DEGENERATE) + 1
        groups = np.split(np.arange(len(squared)), breaks)
        for group in groups:
            strength = float(squared[group].sum())
            if self._plasma * strength > _POLAR * self._total:
                yield float(self.wavenumbers[group].mean()), strength

    def function(self, wavenumbers: np.ndarray, *, damping: float = 10.0) -> np.ndarray:
        """ε(ω) on a grid with one damping γ for all modes, (n, 3, 3), complex.

        Parameters
        ----------
        wavenumbers : ndarray, (n,), cm⁻¹
        damping : float, cm⁻¹
        """
        grid = np.asarray(wavenumbers, dtype=float)[:, None]
        signed = np.sign(self.wavenumbers) * self.wavenumbers**2
        denominators = signed - grid**2 - 1j * damping * grid
        ionic = np.einsum("nm,mab->nab", self._plasma / denominators, self.oscillator_strengths)
        return self.high_frequency + ionic

    def reflectivity(
        self, wavenumbers: np.ndarray, direction: Sequence[float], *, damping: float = 10.0
    ) -> np.ndarray:
        """Normal-incidence |(√ε − 1)/(√ε + 1)|² for a field along a principal axis, (n,)."""
        unit = _unit(direction)
        epsilon = unit @ self.function(wavenumbers, damping=damping) @ unit
        index = np.sqrt(epsilon)
        return np.abs((index - 1) / (index + 1)) ** 2

    def plot(
        self, path: Path | None = None, *, damping: float = 10.0, ax: Axes | None = None
    ) -> Axes:
        """Reflectivity for fields along x, y and z, with the TO and LO of each as a bar."""
        ax = axes_for(path, ax)
        top = max(float(self.longitudinal(axis).max()) for axis in np.eye(3))
        grid = np.linspace(1, 1.2 * top, 1500)
        curves: list[np.ndarray] = []
        for axis, name in zip(np.eye(3), "xyz", strict=True):
            curve = self.reflectivity(grid, axis, damping=damping)
            same = [k for k, other in enumerate(curves) if np.abs(curve - other).max() < 1e-3]
            curves.append(curve)
            if same:
                label = ax.lines[same[0]].get_label()
                ax.lines[same[0]].set_label(f"{label}, {name}")
                continue
            (line,) = ax.plot(grid, curve, label=f"field along {name}")
            height = 1.03 + 0.03 * len({line.get_color() for line in ax.lines})
            for pair in self.splittings(axis):
                ends = [pair.transverse, pair.longitudinal]
                ax.hlines(height, *ends, color=line.get_color(), lw=4)
        ax.set(
            xlabel="wave number (cm⁻¹)", ylabel="reflectivity", ylim=(0, 1.42), xlim=(0, grid[-1])
        )
        ax.set_title(f"{self.title} · damping {damping:g} cm⁻¹", fontsize=10)
        # Above the bars.
        about = "bars: from TO to LO"
        ax.legend(loc="upper right", fontsize=8, ncols=3, title=about, title_fontsize=8)
        return finished(ax, path)


def dielectric_response(ph: Phonopy) -> DielectricResponse:
    """Polar modes of the result of ``phonons(crystal, nac=True)``.

    Acoustic modes are removed by projection, so that a soft optical mode is never taken for one.

    Raises
    ------
    InputError
        Without force constants or ``nac_params``.
    """
    matrix = ph.dynamical_matrix
    if matrix is None or ph.nac_params is None:
        missing = "force constants" if matrix is None else "nac_params"
        raise InputError(
            f"this Phonopy object has no {missing}; make it with "
            "asesc.phonons.phonons(crystal, nac=True)"
        )
    matrix.run([0.0, 0.0, 0.0])
    masses = ph.primitive.masses
    root = np.repeat(np.sqrt(masses), 3)
    acoustic = np.kron(np.sqrt(masses)[:, None], np.eye(3))
    internal = np.linalg.svd(acoustic, full_matrices=True)[0][:, 3:]
    dynamical = internal.T @ matrix.dynamical_matrix.real @ internal
    eigenvalues, vectors = np.linalg.eigh(dynamical)
    displacements = ((internal @ vectors) / root[:, None]).T.reshape(-1, len(masses), 3)
    return DielectricResponse(
        high_frequency=np.array(matrix.dielectric_constant),
        wavenumbers=wavenumbers_of(eigenvalues),
        mode_charges=np.einsum("iab,mib->ma", matrix.born, displacements),
        volume=float(ph.primitive.volume),
        title=getattr(ph, "asesc_title", ph.primitive.formula),
    )


def _unit(direction: Sequence[float]) -> np.ndarray:
    vector = np.asarray(direction, dtype=float)
    if vector.shape != (3,) or not np.linalg.norm(vector) > 0:
        raise InputError(f"direction={direction!r} must be three numbers, not all zero")
    return vector / np.linalg.norm(vector)
