"""Time, memory and error of the Coulomb operator from 64 to 50 000 atoms, in every boundary."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from coulomb_cases import bind, energy_and_forces, force_error, row
from electrostatics import water_like
from torch import Tensor

from asesc.electrostatics.accuracy import ACCURACIES
from asesc.system import System

SIZES = (1000, 2000, 5000, 10_000, 20_000, 50_000)


def scaling_table(seconds: float) -> str:
    """Time and memory from 1 000 to 50 000 atoms, each size in a process of its own."""
    table = """\
## Scaling

| atoms | bind, ms | apply, ms | energy + forces, ms | peak memory above start, MB |
|---|---|---|---|---|
"""
    measured = []
    for n_atoms in SIZES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures = pool.apply(_scale, (n_atoms,))
        measured.append(figures)
        table += row(n_atoms, *(f"{figure:.1f}" for figure in figures))
    exponents = [slope(SIZES, [figures[i] for figures in measured]) for i in range(4)]
    return table + row("exponent", *(f"{exponent:.2f}" for exponent in exponents))


def _scale(n_atoms: int) -> tuple[float, float, float, float]:
    torch.set_num_threads(1)
    small, p = water_like(64, True)
    energy_and_forces(small, p, backend="mesh")  # loads and compiles what is needed
    bind(small, backend="mesh").potential(p)
    system, p = water_like(n_atoms, True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    operator = bind(system)
    times = [time.process_time() - start]
    with torch.no_grad():
        times.append(cpu_seconds(lambda: operator.potential(p), 5))
    times.append(cpu_seconds(lambda: energy_and_forces(system, p), 3))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (*(1e3 * t for t in times), (after - before) / 1024)  # type: ignore[return-value]


def cpu_seconds(code: Callable[[], Any], repeats: int) -> float:
    """Median CPU time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        code()
        times.append(time.process_time() - start)
    return sorted(times)[repeats // 2]


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    """Exponent of a power law through all points."""
    x = torch.tensor(sizes, dtype=torch.float64).log()
    y = torch.tensor(values, dtype=torch.float64).clamp(min=1e-3).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def accuracy_table(seconds: float) -> str:
    """Measured force error against a dense sum up to 512 atoms, then against the mesh at high."""
    table = """\
## Accuracy

Force errors relative to direct sums to 1e-14 up to 648 atoms, beyond that to the mesh at `high`.

| structure | atoms | fast: error (estimate) | default: error (estimate) | high: error (estimate) |
|---|---|---|---|---|
"""
    for name, system, p in accuracy_cases():
        small = system.n_atoms <= 648
        tight = {"accuracy": 1e-11, "backend": "dense"} if not any(system.pbc) else {}
        if any(system.pbc):
            tight = {"accuracy": 1e-10, "backend": "direct-k"} if small else {"accuracy": 1e-9}
        exact = energy_and_forces(system, p, **tight)[1]
        cells = []
        for level in ("fast", "default", "high"):
            accuracy = ACCURACIES[level]
            if level == "high" and not small:
                cells.append("reference")
                continue
            forces = energy_and_forces(system, p, accuracy=accuracy, backend="mesh")[1]
            report = bind(system, accuracy=accuracy, backend="mesh").report
            cells.append(f"{force_error(forces, exact):.1e} ({report.error:.0e})")
        table += row(name, system.n_atoms, *cells)
    return table


def accuracy_cases() -> list[tuple[str, System, Tensor]]:
    """Cubic, triclinic, elongated, slabs and clusters."""
    cases = [("cubic", *water_like(n, True)) for n in (64, 192, 648, 3000, 20_000)]
    shear = torch.tensor([[1.0, 0, 0], [0.4, 0.9, 0], [-0.3, 0.5, 1.1]], dtype=torch.float64)
    long = torch.diag(torch.tensor([0.4, 0.4, 6.25], dtype=torch.float64))
    for n_atoms in (192, 3000):
        system, p = water_like(n_atoms, True)
        for name, shape in (("triclinic", shear), ("1 × 1 × 16", long)):
            changed = replace(system, cell=system.cell @ shape, positions=system.positions @ shape)
            cases.append((name, changed, p))
    for vacuum in (10.0, 30.0, 100.0):
        system, p = water_like(384, True)
        cell = system.cell.clone()
        cell[0, 2, 2] += vacuum
        slab = replace(system, cell=cell, pbc=(True, True, False))
        cases.append((f"slab, {vacuum:.0f} Å vacuum", slab, p))
    cases += [("cluster", *water_like(n, False)) for n in (64, 192, 648)]
    return cases
