"""What a GPU changes: the Coulomb operator and a step of dynamics, on the GPU and on one CPU core.

Every table replaces the one of the same name in benchmarks/results/gpu.md. Wall time, since the
host waits for the device; the device is synchronised around what is timed.

    pip install asesc[bench,fast]
    OMP_NUM_THREADS=1 python benchmarks/gpu.py                       # all
    OMP_NUM_THREADS=1 python benchmarks/gpu.py operator dynamics     # some
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ase import units
from ase.md.verlet import VelocityVerlet
from coulomb_cases import bind, energy_and_forces, force_error, put_table, row
from coulomb_operator import their_apply
from dynamics_cost import STEP, backbone_step, water_box
from electrostatics import theirs, water_like

from asesc import allocator
from asesc.md import DynamicsCalculator
from asesc.system import System

RESULTS = Path(__file__).parent / "results" / "gpu.md"
HEADING = """\
# On a GPU

Charges and dipoles with σ = 1.5 Å at the density of liquid water, float64 where nothing else is
said; milliseconds are medians of wall time."""
DEVICES = ("cuda", "cpu")


def wall(code: Callable[[], object], *, seconds: float = 0.4, least: int = 3) -> float:
    """Median wall time of one call in milliseconds, after one that is not counted."""
    taken: list[float] = []
    code()
    while sum(taken) < seconds or len(taken) < least:
        torch.cuda.synchronize()
        start = time.perf_counter()
        code()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def on_device(n_atoms: int, periodic: bool, device: str) -> tuple[System, torch.Tensor]:
    """Points and multipoles of the other benchmarks."""
    system, p = water_like(n_atoms, periodic)
    return system.to(device=device), p.to(device)


def operator_table() -> str:
    """One application with everything about the geometry cached, and energy with forces."""
    table = """\
## Coulomb operator in a periodic cell

| atoms | apply on the GPU, ms | on one core, ms | ratio | graph-longrange on the GPU, ms | \
energy and forces on the GPU, ms | on one core, ms | ratio | graph-longrange on the GPU, ms | \
engine on the GPU | ΔF/F between the devices |
|---|---|---|---|---|---|---|---|---|---|---|
"""
    for n_atoms in (200, 650, 1500, 3000, 12000, 50000):
        applied, forced, forces, reports, others = [], [], [], [], ["–", "–"]
        for device in DEVICES:
            system, p = on_device(n_atoms, True, device)
            with torch.no_grad():
                operator = bind(system)
                applied.append(wall(partial(operator.potential, p)))
                if device == "cuda" and n_atoms <= 3000 and find_spec("graph_longrange"):
                    others[0] = f"{wall(their_apply(system, p)[0]):.2f}"
                    with torch.enable_grad():
                        others[1] = f"{wall(theirs(system, p)):.1f}"
            reports.append(operator.report)
            forced.append(wall(partial(energy_and_forces, system, p), least=2))
            forces.append(energy_and_forces(system, p)[1].cpu())
        table += row(
            n_atoms,
            f"{applied[0]:.2f}",
            f"{applied[1]:.2f}",
            f"{applied[1] / applied[0]:.1f}",
            others[0],
            f"{forced[0]:.1f}",
            f"{forced[1]:.1f}",
            f"{forced[1] / forced[0]:.1f}",
            others[1],
            reports[0],
            f"{force_error(*forces):.0e}",
        )
    return table


def crossover_table() -> str:
    """The direct sum over waves against the mesh, which decides the engine chosen on a GPU."""
    table = """\
## Direct sum and mesh on the GPU, periodic, one application and energy with forces

| atoms | direct, ms | mesh, ms | direct, energy and forces, ms | mesh, energy and forces, ms |
|---|---|---|---|---|
"""
    for n_atoms in (200, 500, 1000, 2000, 4000):
        system, p = on_device(n_atoms, True, "cuda")
        cells: list[str] = []
        for backend in ("direct-k", "mesh"):
            with torch.no_grad():
                operator = bind(system, backend=backend)
                cells.append(f"{wall(partial(operator.potential, p), seconds=0.3):.2f}")
        for backend in ("direct-k", "mesh"):
            code = partial(energy_and_forces, system, p, backend=backend)
            cells.append(f"{wall(code, seconds=0.3):.1f}")
        table += row(n_atoms, *cells)
    return table


def open_table() -> str:
    """Isolated clusters."""
    table = """\
## Energy and forces in the open boundary

| atoms | on the GPU, ms | on one core, ms | ratio | ΔF/F between the devices |
|---|---|---|---|---|
"""
    for n_atoms in (192, 648):
        times, forces = [], []
        for device in DEVICES:
            system, p = on_device(n_atoms, False, device)
            times.append(wall(partial(energy_and_forces, system, p), least=2))
            forces.append(energy_and_forces(system, p)[1].cpu())
        gpu, cpu = times
        table += row(
            n_atoms, f"{gpu:.1f}", f"{cpu:.1f}", f"{cpu / gpu:.1f}", f"{force_error(*forces):.0e}"
        )
    return table


def dynamics_table() -> str:
    """One-map steps of water against the backbone alone, as in dynamics_cost.py."""
    table = """\
## A step of dynamics: liquid-like water, model nma

| atoms | type | backbone alone, ms | one-map step, ms | R | maps per step | \
converged fully, after the start |
|---|---|---|---|---|---|---|
"""
    for n_atoms, dtype in (
        (192, "float32"),
        (192, "float64"),
        (1536, "float32"),
        (5184, "float32"),
    ):
        atoms = water_box(n_atoms)
        atoms.calc = calculator = DynamicsCalculator(
            "nma", dtype=dtype, device="cuda", allow_extrapolation=True
        )
        dyn = VelocityVerlet(atoms, STEP * units.fs)
        dyn.run(6)
        whole = wall(lambda dyn=dyn: dyn.run(1), seconds=0.0, least=10)
        alone = wall(partial(backbone_step, calculator.model, atoms), seconds=0.0, least=10)
        counts = calculator.one_map.counts
        table += row(
            len(atoms),
            dtype,
            f"{alone:.1f}",
            f"{whole:.1f}",
            f"{whole / alone:.2f}",
            f"{counts.maps_per_step:.2f}",
            f"{counts.fallbacks} of {counts.steps}",
        )
    return table


TABLES: dict[str, Callable[[], str]] = {
    "operator": operator_table,
    "crossover": crossover_table,
    "open": open_table,
    "dynamics": dynamics_table,
}


def main(names: list[str]) -> None:
    """Print the tables and put them into benchmarks/results."""
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    machine = (
        f"{torch.cuda.get_device_name()}, {platform.machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores, "
    )
    for name in names or TABLES:
        print(name, flush=True)
        origin = f"{machine}`python benchmarks/gpu.py {name}`."
        put_table(RESULTS, HEADING, TABLES[name](), origin)


if __name__ == "__main__":
    main(sys.argv[1:])
