"""Molecular dynamics with one map per step against converged densities: maps, drift and time.

Water with small random models, NVE at 0.5 fs from the same start; springs keep the molecules
together, since the models are not trained. Drift is the slope of the difference of the total
energies, which cancels the fluctuation of the integrator; its uncertainty is estimated from the two
halves of the run. Times are CPU seconds per step of everything.

    OMP_NUM_THREADS=1 python benchmarks/dynamics.py              # 1 molecule, 400 steps
    OMP_NUM_THREADS=1 python benchmarks/dynamics.py 4 4000       # 4 molecules, 2 ps
    OMP_NUM_THREADS=1 python benchmarks/dynamics.py 1 4000 SplitChargeEquilibration
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.mixing import SumCalculator
from ase.md.verlet import VelocityVerlet
from watched_water import Springs, gentle_model

from asesc import SCCalculator
from asesc.md import DynamicsCalculator

FAMILIES = ("FixedPoint", "EnergyFunctional", "SplitChargeEquilibration")
STEP = 0.5  # fs


def water(n_molecules: int) -> Atoms:
    """Molecules in a row of periodic cells, with velocities of about 300 K."""
    one = molecule("H2O")
    one.set_cell([3.4, 3.4, 3.4])
    one.pbc = True
    atoms = one.repeat((n_molecules, 1, 1)) if n_molecules > 1 else one
    atoms.rattle(0.03, seed=1)
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta * np.sqrt(0.025 * atoms.get_masses())[:, None])
    return atoms


def trajectory(calculator: SCCalculator, n_molecules: int, steps: int) -> tuple[np.ndarray, float]:
    """Total energy of every step, meV/atom, and CPU seconds per step."""
    atoms = water(n_molecules)
    atoms.calc = SumCalculator([calculator, Springs(atoms.positions)])
    dyn = VelocityVerlet(atoms, STEP * units.fs)
    energies: list[float] = []
    dyn.attach(lambda: energies.append(1e3 * atoms.get_total_energy() / len(atoms)))
    dyn.run(5)
    start = time.process_time()
    dyn.run(steps - 5)
    # The first step of the second run is the last of the first.
    return np.delete(energies, 6), (time.process_time() - start) / (steps - 5)


def drift(difference: np.ndarray) -> float:
    """Slope, meV/atom/ns."""
    return float(np.polyfit(np.arange(len(difference)) * STEP * 1e-6, difference, 1)[0])


def main(n_molecules: int = 1, steps: int = 400, *families: str) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{3 * n_molecules} atoms, {steps * STEP / 1000:.2f} ps\n")
    print(
        "| family | maps per step | converged fully | kernels | drift against converged, "
        "meV/atom/ns (halves) | rms difference, meV/atom | own rms, meV/atom | CPU ms per step, "
        "converged / one map |\n|---|---|---|---|---|---|---|---|"
    )
    for family in families or FAMILIES:
        model = gentle_model(family)
        reference, their = trajectory(SCCalculator(model), n_molecules, steps)
        calculator = DynamicsCalculator(model)
        followed, ours = trajectory(calculator, n_molecules, steps)
        difference, counts = followed - reference, calculator.one_map.counts
        half = len(difference) // 2
        print(
            f"| {family} | {counts.maps_per_step:.3f} | {counts.fallbacks} of {counts.steps} | "
            f"{counts.kernels} | {drift(difference):.2g} ({drift(difference[:half]):.2g}, "
            f"{drift(difference[half:]):.2g}) | {difference.std():.1e} | {reference.std():.2g} | "
            f"{1e3 * their:.1f} / {1e3 * ours:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]), *sys.argv[3:])
