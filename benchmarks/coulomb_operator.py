"""The Coulomb operator against graph-longrange and torch-pme: time, scaling and accuracy.

Charges and dipoles with σ = 1.5 Å at the density of liquid water, float64, one thread. Codes are
timed in turn, so that a busy machine slows all of them, and CPU time is compared. Rows of packages
that are not installed are left out with a note.

    pip install asesc[bench,fast,test]
    OMP_NUM_THREADS=1 python benchmarks/coulomb_operator.py           # every table
    OMP_NUM_THREADS=1 python benchmarks/coulomb_operator.py apply     # one of them
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from electrostatics import SIGMA, interleaved, theirs, water_like
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics import boundary_for
from asesc.electrostatics.accuracy import ACCURACIES
from asesc.electrostatics.compiled import is_available
from asesc.models.backbone import mace_environment
from asesc.neighbors import find_edges
from asesc.system import System
from asesc.units import COULOMB

#: Cutoff factor of graph-longrange that PolarMACE uses; its force error is then about 1e-7.
CUTOFF_FACTOR = 1.5
RESULTS = Path(__file__).parent / "results" / "coulomb_operator.md"


def bind(system: System, *, width: float = SIGMA, lmax: int = 1, **keywords: Any):
    """The operator of a system with one width."""
    widths = torch.full((system.n_atoms,), width, dtype=torch.float64)
    boundary = boundary_for("auto", system.pbc)
    return boundary.bind(system, GaussianBasis(lmax, widths), **keywords)


def energy_and_forces(system: System, p: Tensor, **keywords: Any) -> tuple[float, Tensor]:
    """Bind, energy and forces."""
    positions = system.positions.clone().requires_grad_()
    energy = bind(replace(system, positions=positions), **keywords).energy(p).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    return float(energy.detach()), -gradient


def force_error(forces: Tensor, reference: Tensor) -> float:
    """Relative root-mean-square error."""
    return float((forces - reference).norm() / reference.norm())


def their_apply(system: System, p: Tensor) -> tuple[Callable[[], Tensor], float]:
    """Cached potential of graph-longrange, and the seconds it took to make the cache."""
    with mace_environment():
        from graph_longrange.features import GTOElectrostaticFeatures
        from graph_longrange.gto_utils import gto_basis_kspace_cutoff
        from graph_longrange.kspace import compute_k_vectors_flat

        cutoff = CUTOFF_FACTOR * gto_basis_kspace_cutoff([SIGMA], 1)
        block = GTOElectrostaticFeatures(
            density_max_l=1,
            density_smearing_width=SIGMA,
            feature_max_l=1,
            feature_smearing_widths=[SIGMA],
            include_self_interaction=True,
            kspace_cutoff=cutoff,
            integral_normalization="multipoles",
            pbc_handling="pbc",
        )
    start = time.process_time()
    reciprocal = 2 * math.pi * torch.linalg.inv(system.cell).transpose(-1, -2)
    k, k2, k_batch, k0 = compute_k_vectors_flat(cutoff, system.cell, reciprocal)
    cache = block.precompute_geometry(
        k_vectors=k,
        k_norm2=k2,
        k_vector_batch=k_batch,
        k0_mask=k0,
        node_positions=system.positions,
        batch=system.batch,
        volume=system.volume,
        pbc=torch.tensor([system.pbc]),
    )
    source = p[:, [0, 2, 3, 1]]
    return lambda: block.forward_dynamic(cache, source), time.process_time() - start


@torch.no_grad()
def apply_table(seconds: float) -> str:
    """Cached potential, energy and forces apart."""
    table = """\
## One application of J, everything about the geometry cached

| atoms | graph-longrange, ms (bind) | asesc default, ms (bind) | ratio | asesc fast, ms | ratio | \
engine at default | errors, graph-longrange / default / fast |
|---|---|---|---|---|---|---|---|
"""
    for n_atoms in (200, 650, 1500, 3000):
        system, p = water_like(n_atoms, True)
        other, their_bind = their_apply(system, p)
        start = time.process_time()
        default = bind(system)
        our_bind = time.process_time() - start
        fast = bind(system, accuracy=ACCURACIES["fast"])
        exact = bind(system, accuracy=1e-9, backend="mesh").potential(p)
        codes = [other, partial(default.potential, p), partial(fast.potential, p)]
        errors = [force_error(codes[0]()[:, [0, 3, 1, 2]], exact)]
        errors += [force_error(code(), exact) for code in codes[1:]]
        their, ours, ours_fast = (t.cpu * 1e3 for t in interleaved(codes, seconds))
        table += row(
            n_atoms,
            f"{their:.2f} ({their_bind * 1e3:.0f})",
            f"{ours:.2f} ({our_bind * 1e3:.0f})",
            f"{their / ours:.1f}",
            f"{ours_fast:.2f}",
            f"{their / ours_fast:.1f}",
            default.report,
            " / ".join(f"{error:.0e}" for error in errors),
        )
    return table


def force_table(seconds: float) -> str:
    """Everything included, from positions to forces."""
    table = """\
## Energy and forces from positions

| boundary | atoms | graph-longrange, ms | asesc default, ms | ratio | ΔF/F between them |
|---|---|---|---|---|---|
"""
    for periodic in (True, False):
        for n_atoms in (192, 648):
            system, p = water_like(n_atoms, periodic)
            codes = [theirs(system, p), lambda s=system, p=p: energy_and_forces(s, p)]
            difference = force_error(codes[1]()[1], codes[0]()[1])
            their, ours = (t.cpu * 1e3 for t in interleaved(codes, seconds, least=2))
            name = "periodic" if periodic else "open"
            table += row(
                name,
                n_atoms,
                f"{their:.1f}",
                f"{ours:.1f}",
                f"{their / ours:.0f}",
                f"{difference:.0e}",
            )
    return table


def batch_table(seconds: float) -> str:
    """Many small cells at once."""
    table = """\
## Batches of small periodic cells, energy and forces

| cells × atoms | graph-longrange, ms per cell | asesc, ms per cell | ratio |
|---|---|---|---|
"""
    for n_cells, n_atoms in ((16, 81), (64, 81)):
        system, p = water_like(n_atoms, True)
        many = replace(
            system,
            positions=system.positions.repeat(n_cells, 1),
            numbers=system.numbers.repeat(n_cells),
            cell=system.cell.repeat(n_cells, 1, 1),
            batch=torch.arange(n_cells).repeat_interleave(n_atoms),
            charge=system.charge.repeat(n_cells),
            electric_field=system.electric_field.repeat(n_cells, 1),
        )
        p = p.repeat(n_cells, 1)
        codes = [theirs(many, p), lambda s=many, p=p: energy_and_forces(s, p)]
        their, ours = (t.cpu * 1e3 / n_cells for t in interleaved(codes, seconds, least=2))
        table += row(f"{n_cells} × {n_atoms}", f"{their:.2f}", f"{ours:.2f}", f"{their / ours:.0f}")
    return table


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
    small, p = water_like(1000, True)
    energy_and_forces(small, p)  # loads and compiles what is needed
    bind(small).potential(p)
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


def point_charge_table(seconds: float) -> str:
    """Rock salt as point charges: Gaussians of 0.2 Å, mesh and pairs, against P3M."""
    import torchpme

    table = """\
## Point charges in disordered NaCl: energy, forces and neighbour lists at equal force error

| atoms | force error | torch-pme P3M, ms (error) | asesc, ms (error) | ratio | engine |
|---|---|---|---|---|---|
"""
    for n_cells in (5, 8):
        system, q = rock_salt(n_cells)
        exact = energy_and_forces(system, q, width=0.2, lmax=0, accuracy=1e-9)[1]
        # Scanned for the least time at each error with these structures.
        for target, (cutoff, smearing, spacing, nodes) in {
            1e-4: (7.0, 1.45, 0.8, 5),
            1e-6: (9.0, 1.4, 0.36, 5),
        }.items():

            def p3m(
                system: System = system,
                q: Tensor = q,
                parameters: tuple[float, float, float, int] = (cutoff, smearing, spacing, nodes),
            ) -> tuple[float, Tensor]:
                cutoff, smearing, spacing, nodes = parameters
                positions = system.positions.clone().requires_grad_()
                moved = replace(system, positions=positions)
                edges = find_edges(moved, cutoff)
                calculator = torchpme.P3MCalculator(
                    torchpme.CoulombPotential(smearing=smearing).to(torch.float64),
                    mesh_spacing=spacing,
                    interpolation_nodes=nodes,
                    full_neighbor_list=True,
                )
                potential = calculator(
                    q,
                    system.cell[0],
                    positions,
                    torch.stack([edges.source, edges.target], dim=1),
                    edges.vectors(moved).norm(dim=-1),
                )
                energy = COULOMB * (q * potential).sum()
                return float(energy.detach()), -torch.autograd.grad(energy, positions)[0]

            def ours(
                system: System = system, q: Tensor = q, accuracy: float = target
            ) -> tuple[float, Tensor]:
                return energy_and_forces(system, q, width=0.2, lmax=0, accuracy=accuracy)

            errors = [force_error(code()[1], exact) for code in (p3m, ours)]
            their, our = (t.cpu * 1e3 for t in interleaved([p3m, ours], seconds, least=2))
            table += row(
                system.n_atoms,
                f"{target:.0e}",
                f"{their:.0f} ({errors[0]:.0e})",
                f"{our:.0f} ({errors[1]:.0e})",
                f"{their / our:.1f}",
                bind(system, width=0.2, lmax=0, accuracy=target).report,
            )
    return table


def rock_salt(n_cells: int) -> tuple[System, Tensor]:
    """n³ cubic cells of NaCl with 0.15 Å of disorder, and charges (N, 1)."""
    from ase.build import bulk

    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True).repeat(n_cells)
    atoms.rattle(0.15, seed=n_cells)
    system = System.from_atoms(atoms)
    return system, torch.where(system.numbers == 11, 1.0, -1.0).double()[:, None]


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


def row(*cells: Any) -> str:
    """One line of a table; also printed."""
    line = "| " + " | ".join(str(cell) for cell in cells) + " |"
    print(line, flush=True)
    return line + "\n"


TABLES: dict[str, tuple[Callable[[float], str], str | None]] = {
    "apply": (apply_table, "graph_longrange"),
    "forces": (force_table, "graph_longrange"),
    "batches": (batch_table, "graph_longrange"),
    "scaling": (scaling_table, None),
    "point_charges": (point_charge_table, "torchpme"),
    "accuracy": (accuracy_table, None),
}


def main(names: list[str], seconds: float = 2.0) -> None:
    """Print the tables and, if all were asked for, write them to benchmarks/results."""
    torch.set_num_threads(1)
    loops = "compiled loops (numba)" if is_available() else "tensor operations (no numba)"
    text = (
        f"# The Coulomb operator\n\n{__doc__.split('    pip')[0].partition(chr(10))[2].strip()}\n"
    )
    text += (
        f"\n{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{loops}, load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores.\n\n"
    )
    for name in names or TABLES:
        make, package = TABLES[name]
        if package is not None and find_spec(package) is None:
            text += f"{name}: {package} is not installed.\n\n"
            continue
        print(name, flush=True)
        text += make(seconds) + "\n"
    if not names:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
