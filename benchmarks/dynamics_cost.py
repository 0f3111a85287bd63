"""R: CPU time of a step of dynamics over that of the same backbone without electrostatics.

Liquid-like water (molecules on a grid, turned at random, 0.0334 Å⁻³) and the model `nma`, whose
elements contain those of water: ScaleShiftMACE with 64 channels and a cutoff of 5 Å, split-charge
equilibration. Both codes do a step in turn from the same positions: `DynamicsCalculator` after its
history is complete, and energy and forces of the backbone's own part. Neighbour lists and ASE are
in both.

    pip install asesc[fast]
    OMP_NUM_THREADS=1 python benchmarks/dynamics_cost.py            # 192 atoms
    OMP_NUM_THREADS=1 python benchmarks/dynamics_cost.py 1536 float64 6
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

from asesc import allocator
from asesc.md import DynamicsCalculator
from asesc.models import Model
from asesc.system import System

HEADER = """\
| atoms | type | backbone, ms (least) | one-map step, ms (least) | R | R of the least \
| maps per step | converged fully, after the start | kernels | first step, ms |
|---|---|---|---|---|---|---|---|---|---|"""
DENSITY = 0.0334  # molecules/Å³
STEP = 0.5  # fs


def water_box(n_atoms: int) -> Atoms:
    """n³ molecules in a cube."""
    per_edge = round((n_atoms / 3) ** (1 / 3))
    edge = (per_edge**3 / DENSITY) ** (1 / 3)
    rng = np.random.default_rng(0)
    box = Atoms(cell=[edge] * 3, pbc=True)
    for index in np.ndindex(per_edge, per_edge, per_edge):
        one = molecule("H2O")
        one.positions -= one.get_center_of_mass()
        one.euler_rotate(*(360 * rng.random(3)))
        one.translate((np.array(index) + 0.5) * edge / per_edge)
        box += one
    thermal = np.sqrt(units.kB * 300 * box.get_masses())[:, None]
    box.set_momenta(thermal * rng.normal(size=(len(box), 3)))
    return box


def backbone_step(model: Model, atoms: Atoms) -> None:
    """Energy and forces of the part that has no electrostatics."""
    system = System.from_atoms(atoms).to(device=next(model.parameters()).device)
    system.positions.requires_grad_()
    energy = system.sum(model.backbone(system).energies).sum()
    torch.autograd.grad(energy, system.positions)


def main(n_atoms: int = 192, dtype: str = "float64", steps: int = 10) -> None:
    """Print one row."""
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    atoms = water_box(n_atoms)
    atoms.calc = calculator = DynamicsCalculator("nma", dtype=dtype, allow_extrapolation=True)
    dyn = VelocityVerlet(atoms, STEP * units.fs)
    start = time.process_time()
    dyn.run(1)
    cold = time.process_time() - start
    dyn.run(5)
    model: Model = calculator.model  # type: ignore[assignment]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        start = time.process_time()
        dyn.run(1)
        times[0].append(time.process_time() - start)
        start = time.process_time()
        backbone_step(model, atoms)
        times[1].append(time.process_time() - start)
    whole, alone = (1e3 * statistics.median(taken) for taken in times)
    counts = calculator.one_map.counts
    print(HEADER)
    print(
        f"| {len(atoms)} | {dtype} | {alone:.0f} ({1e3 * min(times[1]):.0f}) | "
        f"{whole:.0f} ({1e3 * min(times[0]):.0f}) | {whole / alone:.2f} | "
        f"{min(times[0]) / min(times[1]):.2f} | {counts.maps_per_step:.2f} | "
        f"{counts.fallbacks} of {counts.steps} | {counts.kernels} | {1e3 * cold:.0f} |"
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 192,
        sys.argv[2] if len(sys.argv) > 2 else "float64",
        int(sys.argv[3]) if len(sys.argv) > 3 else 10,
    )
