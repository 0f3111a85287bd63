"""Relaxing without losing symmetry: harmonic quantities need a stationary point."""

from __future__ import annotations

from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from asesc.errors import InputError
from asesc.workflows.evaluations import calculator_of


def relaxed(atoms: Atoms, *, fmax: float = 1e-3, cell: bool = False, steps: int = 500) -> Atoms:
    """A relaxed copy with the same calculator, of the same space group if it is a crystal.

    Parameters
    ----------
    fmax : float, eV/Å
        Largest force (with ``cell``: also of the stress, as an energy per strain and atom).
    cell : bool
        Relax the cell too, at zero pressure; needs three periodic directions.

    Raises
    ------
    InputError
        If ``fmax`` is not reached within ``steps``, or there is no cell to relax.
    """
    if cell and not atoms.pbc.all():
        raise InputError(f"cell=True needs three periodic directions, not pbc={atoms.pbc}")
    work = atoms.copy()
    work.calc = calculator_of(atoms)
    if work.pbc.all():
        work.set_constraint([*work.constraints, FixSymmetry(work, symprec=1e-3)])
    optimiser = BFGS(FrechetCellFilter(work) if cell else work, logfile=None)
    if not optimiser.run(fmax=fmax, steps=steps):
        raise InputError(
            f"not relaxed to {fmax} eV/Å within {steps} steps; raise steps, or start nearer to a "
            "minimum of this model"
        )
    work.set_constraint(atoms.constraints)
    return work
