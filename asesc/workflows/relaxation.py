"""Relaxing without losing symmetry: harmonic quantities need a stationary point."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from asesc.errors import InputError
from asesc.workflows.evaluations import calculator_of, in_a_field
from asesc.workflows.harmonic import vibrations
from asesc.workflows.modes import NOISE, ImaginaryModesWarning

#: Largest displacement of an atom when an imaginary mode is followed, Å.
_FOLLOW = 0.2


def relaxed(atoms: Atoms, *, fmax: float = 1e-3, cell: bool = False, steps: int = 500) -> Atoms:
    """A relaxed copy with the same calculator, of the same space group if it is a crystal.

    In an applied field, which breaks it, no symmetry is kept.

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
    if work.pbc.all() and not in_a_field(work):
        work.set_constraint([*work.constraints, FixSymmetry(work, symprec=1e-3)])
    optimiser = BFGS(FrechetCellFilter(work) if cell else work, logfile=None)
    if not optimiser.run(fmax=fmax, steps=steps):
        raise InputError(
            f"not relaxed to {fmax} eV/Å within {steps} steps; raise steps, or start nearer to a "
            "minimum of this model"
        )
    work.set_constraint(atoms.constraints)
    return work


def minimum(atoms: Atoms, *, fmax: float = 1e-3, steps: int = 500, attempts: int = 5) -> Atoms:
    """A relaxed copy without imaginary modes, at fixed cell.

    A relaxation that starts from a symmetric structure keeps the symmetry and may end on a saddle
    point. Then the atoms are displaced along the most unstable mode at Γ and relaxed again. Costs
    one Hessian per attempt.

    Parameters
    ----------
    fmax : float, eV/Å
    attempts : int
        How many saddle points may be left.

    Raises
    ------
    InputError
        If ``fmax`` is not reached, or there are still imaginary modes after the last attempt.
    """
    for _ in range(attempts):
        atoms = relaxed(atoms, fmax=fmax, steps=steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImaginaryModesWarning)
            modes = vibrations(atoms)
        if modes.wavenumbers.min(initial=0.0) > -NOISE:
            return atoms
        unstable = modes.displacements[0]
        largest = np.linalg.norm(unstable, axis=1).max()
        atoms.positions += _FOLLOW / largest * unstable
    raise InputError(
        f"still {-modes.wavenumbers[0]:.0f}i cm⁻¹ after leaving {attempts} saddle points; this "
        "model may have no minimum near this structure"
    )
