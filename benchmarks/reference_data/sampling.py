"""Cheap sampling of geometries, mostly with GFN1-xTB; nothing here is a label."""

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE


def gfn1(atoms: Atoms, *, charge: int = 0, electronic_temperature: float = 1000.0) -> Calculator:
    """GFN1-xTB calculator with the lowest spin the number of electrons allows."""
    # A model samples where tblite is not installed.
    from tblite.ase import TBLite

    odd = (int(atoms.numbers.sum()) - charge) % 2
    return TBLite(
        method="GFN1-xTB",
        charge=charge,
        multiplicity=1 + odd,
        electronic_temperature=electronic_temperature,
        verbosity=0,
    )


def relaxed(atoms: Atoms, calculator, *, steps: int = 60, fmax: float = 0.05) -> Atoms:
    """Relax the positions in a fixed cell, at most ``steps`` FIRE steps."""
    result = atoms.copy()
    result.calc = calculator
    FIRE(result, logfile=None).run(fmax=fmax, steps=steps)
    result.calc = None
    return result


def snapshots(
    atoms: Atoms,
    calculator,
    *,
    temperature: float,
    count: int,
    interval: int,
    timestep: float,
    seed: int,
) -> list[Atoms]:
    """Langevin molecular dynamics; one copy every ``interval`` steps.

    Parameters
    ----------
    atoms : Atoms
        Start; relaxed starts get twice the temperature, shared out within a few vibrations.
    calculator : ase Calculator
    temperature : float, K
    count, interval : int
    timestep : float, fs
    seed : int
    """
    rng = np.random.default_rng(seed)
    moving = atoms.copy()
    moving.calc = calculator
    MaxwellBoltzmannDistribution(moving, temperature_K=2 * temperature, rng=rng)
    dynamics = Langevin(
        moving, timestep * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng
    )
    frames = []
    for _ in range(count):
        dynamics.run(interval)
        frames.append(Atoms(moving.symbols, moving.positions, cell=moving.cell, pbc=moving.pbc))
        frames[-1].info = dict(atoms.info)
    return frames


def rattled(atoms: Atoms, sigma: float, seed: int) -> Atoms:
    """Gaussian displacements of standard deviation ``sigma`` (Angstrom) on every coordinate."""
    result = atoms.copy()
    result.positions += np.random.default_rng(seed).normal(scale=sigma, size=(len(atoms), 3))
    return result
