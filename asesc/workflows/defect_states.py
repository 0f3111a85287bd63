"""Energies, geometries and corrections of the charge states of one supercell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS

from asesc.errors import InputError
from asesc.workflows.defect_cells import DefectCell
from asesc.workflows.evaluations import lacking, tracked
from asesc.workflows.finite_size import FiniteSizeCorrection, kumagai_correction
from asesc.workflows.records import recorded


@dataclass(frozen=True)
class DefectState:
    """A supercell with the defect in one charge state.

    Parameters
    ----------
    charge : int, e
    atoms : Atoms
        With results and the charge in ``info``.
    position : ndarray, (3,), Å
        Of the defect.
    energy : float, eV
        Without correction.
    unrelaxed_energy : float, eV
        With the atoms where they are in the crystal.
    site_potentials : ndarray, (n,), V, or None
        Of the atoms; None without a correction.
    correction : FiniteSizeCorrection or None
    """

    charge: int
    atoms: Atoms
    position: np.ndarray
    energy: float
    unrelaxed_energy: float
    site_potentials: np.ndarray | None
    correction: FiniteSizeCorrection | None

    @property
    def corrected_energy(self) -> float:
        """With correction, eV."""
        return self.energy + (0.0 if self.correction is None else self.correction.energy)


@dataclass(frozen=True)
class Perfect:
    """The supercell without the defect: with results, and its site potentials, V."""

    atoms: Atoms
    energy: float
    site_potentials: np.ndarray | None


@dataclass(frozen=True)
class Protocol:
    """How every supercell is computed.

    Parameters
    ----------
    calc : Calculator
    charges : tuple of int, e
    dielectric : ndarray, (3, 3), or None
        Screening in the correction; None for no correction.
    fmax : float or None, eV/Å
        Largest force after relaxation; None for none.
    steps : int
        Most steps of a relaxation.
    progress : bool
    title : str
        Of plots: defect and model.
    """

    calc: Calculator
    charges: tuple[int, ...]
    dielectric: np.ndarray | None
    fmax: float | None
    steps: int
    progress: bool
    title: str

    def run(self, cell: DefectCell) -> tuple[Perfect, tuple[DefectState, ...]]:
        """All charge states of one supercell; each once unrelaxed before the first is relaxed."""
        frames = [self._charged(cell.defect, charge) for charge in self.charges]
        with _background_expected():
            unrelaxed = [
                self._energy(frame, q) for frame, q in zip(frames, self.charges, strict=True)
            ]
            perfect = self._perfect(cell)
            bar = f"{len(cell.defect)} atoms" if self.progress else None
            states = [
                self._state(cell, perfect, frame, charge, first)
                for frame, charge, first in zip(
                    tracked(frames, bar), self.charges, unrelaxed, strict=True
                )
            ]
        return perfect, tuple(states)

    def charged_bulk(self, cell: DefectCell, charge: int) -> float:
        """Energy of the supercell without the defect at a charge, eV."""
        with _background_expected():
            return self._energy(self._charged(cell.bulk, charge), charge)

    def _charged(self, atoms: Atoms, charge: int) -> Atoms:
        frame = atoms.copy()
        frame.info["charge"] = charge
        # A state of its own, where the calculator has such, keeps what was computed once.
        frame.calc = self.calc.clone() if hasattr(self.calc, "clone") else self.calc
        return frame

    def _energy(self, frame: Atoms, charge: int) -> float:
        energy = float(frame.get_potential_energy())
        charges = frame.calc.results.get("charges")
        found = charge if charges is None else float(np.sum(charges))
        if abs(found - charge) > 1e-3:
            raise InputError(
                f"{frame.get_chemical_formula()} was asked for with charge {charge:+d} e, but this "
                f"calculator gives it {found:+.3f} e: its fixed charges do not fit the supercell. "
                "Ask for that charge, or use a model whose charge can vary"
            )
        return energy

    def _perfect(self, cell: DefectCell) -> Perfect:
        bulk = self._charged(cell.bulk, 0)
        energy = self._energy(bulk, 0)
        return Perfect(recorded(bulk), energy, self._site_potentials(bulk))

    def _state(
        self, cell: DefectCell, perfect: Perfect, frame: Atoms, charge: int, unrelaxed: float
    ) -> DefectState:
        if self.fmax is not None:
            self._relax(frame, charge)
        energy = float(frame.get_potential_energy())
        potentials, position = self._site_potentials(frame), cell.centre(frame)
        correction = None
        if self.dielectric is not None and potentials is not None:
            before, after = perfect.site_potentials[cell.bulk_sites], potentials[cell.defect_sites]
            correction = kumagai_correction(
                charge,
                cell=frame.cell.array,
                displacements=frame.positions[cell.defect_sites] - position,
                differences=after - before,
                dielectric=self.dielectric,
                title=f"{self.title}, {len(frame)} atoms",
            )
        return DefectState(
            charge, recorded(frame), position, energy, unrelaxed, potentials, correction
        )

    def _relax(self, frame: Atoms, charge: int) -> None:
        if not BFGS(frame, logfile=None).run(fmax=self.fmax, steps=self.steps):
            raise InputError(
                f"charge {charge:+d} is not relaxed to {self.fmax} eV/Å within {self.steps} steps; "
                "raise steps, or start nearer to a minimum of this model"
            )

    def _site_potentials(self, atoms: Atoms) -> np.ndarray | None:
        """What a positive charge feels on each atom, averaged over the atom's own Gaussian."""
        if self.dielectric is None:
            return None
        atoms.get_potential_energy()
        extras = getattr(atoms.calc, "extras", {})
        if "potential" not in extras:
            raise lacking(
                self.calc,
                "site potentials",
                "it has no calc.extras['potential']",
                "Use correction=None with extrapolate=(2, 3, 4)",
            )
        return np.array(extras["potential"][:, 0])


def checked_charges(charges: Sequence[int]) -> tuple[int, ...]:
    """Whole, different charges, the largest first.

    Raises
    ------
    InputError
    """
    whole = all(isinstance(q, int | np.integer) or float(q).is_integer() for q in charges)
    if not len(charges) or not whole or len({int(q) for q in charges}) < len(charges):
        raise InputError(
            f"charges={charges!r} must be different whole numbers of e: a cell with a fraction of "
            "an electron is no charge state"
        )
    return tuple(sorted((int(q) for q in charges), reverse=True))


@contextmanager
def _background_expected() -> Iterator[None]:
    """Without the advice that charged cells need a correction: they get one here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"charge .* in a periodic cell")
        yield
