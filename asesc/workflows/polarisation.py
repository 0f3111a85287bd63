"""The dipole of a periodic cell followed by continuity: the one place where branches are chosen.

The polarisation of a crystal is known modulo e h/V with a lattice vector h: it depends on which
image of an ion is counted. Along a path it is a smooth function all the same, and its changes are
what is measured. Everything is done on the fractional dipole p with μ = Σ_k p_k h_k, which jumps
by the charge q of an ion when that is wrapped along k, whatever the cell does meanwhile.
Resta, Vanderbilt, in Physics of Ferroelectrics (2007), doi:10.1007/978-3-540-34591-6_2, Sec. 4.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from asesc.errors import InputError
from asesc.workflows.evaluations import ask, calculator_of

_ADVICE = (
    "Choose a model with a polarisation in periodic cells (SplitChargeEquilibration, SplitCharges, "
    "FixedCharges), or pbc=False for a molecule"
)


def moment(calc: Calculator, atoms: Atoms) -> np.ndarray:
    """Dipole μ of a molecule, or V P of a cell on the branch the calculator chose: (3,), e Å.

    Raises
    ------
    InputError
        For slabs and wires, whose dipole has no components along periodic directions.
    PropertyUnavailableError
        If the calculator does not give it.
    """
    if not atoms.pbc.any():
        return ask(calc, atoms, "dipole", advice="Choose a model with charges")
    if not atoms.pbc.all():
        raise InputError(
            "the dipole of a slab or wire is not defined along its periodic directions, so it has "
            f"no spectrum or branch there (pbc={atoms.pbc}). Make it periodic or isolated, or use "
            "Born charges: currents Σ Z*·v"
        )
    return atoms.get_volume() * ask(calc, atoms, "polarization", advice=_ADVICE)


def nearest_branch(
    moments: np.ndarray, reference: np.ndarray, cell: np.ndarray, *, quantum: float = 1.0
) -> np.ndarray:
    """The branch of μ + q Σ n_k h_k (integers n) nearest to a reference: (…, 3), e Å.

    Parameters
    ----------
    moments, reference : ndarray, (…, 3), e Å
    cell : ndarray, (…, 3, 3), Å
        Rows are lattice vectors.
    quantum : float, e
        Charge q of what may be counted in another image.
    """
    away = np.einsum("...a,...ak->...k", moments - reference, np.linalg.inv(cell))
    return moments - np.einsum("...k,...ka->...a", quantum * np.round(away / quantum), cell)


def unwrapped_moments(
    moments: np.ndarray, cells: np.ndarray, *, quantum: float = 1.0
) -> np.ndarray:
    """A stored series of dipoles or V P on one branch, each frame nearest to the one before.

    Sound as long as the fractional dipole changes by less than half the quantum per frame. If
    ions with fractional charges were wrapped, no quantum is right: follow the run with
    :class:`ContinuousMoment` instead.

    Parameters
    ----------
    moments : ndarray, (T, 3), e Å
    cells : ndarray, (3, 3) or (T, 3, 3), Å
    """
    moments = np.asarray(moments, dtype=float)
    inverse = np.linalg.inv(np.broadcast_to(cells, (len(moments), 3, 3)))
    fractional = np.einsum("ta,tak->tk", moments, inverse)
    jumps = np.round(np.diff(fractional, axis=0) / quantum)
    fractional[1:] -= quantum * np.cumsum(jumps, axis=0)
    return np.einsum("tk,tka->ta", fractional, np.broadcast_to(cells, (len(moments), 3, 3)))


class ContinuousMoment:
    """The dipole of a structure along molecular dynamics or a relaxation, on one branch.

    Call it after every step, or every few. An atom that moved by more than half a cell was
    wrapped: then the jump is measured by asking the calculator for the unwrapped structure too,
    which is right for any charge and costs one more evaluation. A calculator that changes its own
    branch by whole charges is followed as well.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; looked at, never changed.

    Examples
    --------
    >>> from ase import Atoms
    >>> from asesc import CoulombCalculator
    >>> salt = Atoms("NaCl", [(0.1, 2, 2), (2, 2, 2)], cell=(4, 4, 4), pbc=True)
    >>> salt.calc = CoulombCalculator(charges={"Na": 0.7, "Cl": -0.7})
    >>> follow = ContinuousMoment(salt)
    >>> before = follow()
    >>> salt.positions[0, 0] -= 0.2
    >>> salt.wrap()
    >>> [round(float(x), 6) for x in follow() - before]
    [-0.14, 0.0, 0.0]
    """

    def __init__(self, atoms: Atoms) -> None:
        self._calc = calculator_of(atoms)
        self._atoms = atoms
        self._scaled: np.ndarray | None = None
        self._fractional: np.ndarray | None = None
        self._offset = np.zeros(3)

    def __call__(self) -> np.ndarray:
        """The present dipole, (3,), e Å."""
        atoms = self._atoms
        present = moment(self._calc, atoms)
        if not atoms.pbc.all():
            return present
        cell = atoms.cell.array
        fractional = present @ np.linalg.inv(cell) - self._offset
        scaled = atoms.cell.scaled_positions(atoms.positions)
        if self._scaled is not None:
            wraps = np.round(scaled - self._scaled)
            if wraps.any():
                jump = self._jump(present, wraps)
                self._offset += jump
                fractional -= jump
            branch = np.round(fractional - self._fractional)
            self._offset += branch
            fractional -= branch
        self._scaled, self._fractional = scaled, fractional
        return fractional @ cell

    def _jump(self, present: np.ndarray, wraps: np.ndarray) -> np.ndarray:
        """Change of the fractional dipole by wrapping alone, (3,), e."""
        whole = self._atoms.copy()
        whole.positions -= wraps @ whole.cell.array
        cell = whole.cell.array
        return (present - moment(self._calc, whole)) @ np.linalg.inv(cell)
