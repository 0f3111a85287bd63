"""Iterations and time of matrix-free charge equilibration, from 192 to 98 304 atoms.

Charges and dipoles with σ = 1.5 Å at the density of liquid water, hardness 7 V/e: as a QEq model
has it, a metal, whose stiffness grows like L². Cold: from nothing. Warm: the atoms are displaced by
0.01 Å (root mean square) per frame along straight lines, from the last solution and from the last
three extrapolated. The residual is relative to that of the cold start.

Split charges: the model `quartz` on cells of α-quartz with 0.05 Å of disorder, to 1e-8 e Å^l; the
number of iterations is that of its dielectric constant, whatever the size.

Functional: a convex `EnergyFunctional` of small random heads on liquid-like water, from nothing to
1e-6 e Å^l, matrix-free.

    pip install asesc[fast]
    OMP_NUM_THREADS=1 python benchmarks/charge_equilibration.py            # up to 12 288 atoms
    OMP_NUM_THREADS=1 python benchmarks/charge_equilibration.py 98304      # one size
    OMP_NUM_THREADS=1 python benchmarks/charge_equilibration.py quartz     # split charges only
    OMP_NUM_THREADS=1 python benchmarks/charge_equilibration.py functional # functional only
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from coulomb_cases import bind, row
from dynamics_cost import water_box
from electrostatics import water_like
from torch import Tensor
from watched_water import gentle_model

from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.electrostatics import CoulombOperator
from asesc.pretrained import load_model
from asesc.response import energy_and_forces
from asesc.solvers import SCFOptions, Solution, long_wave_inverse, minimise_quadratic_cg
from asesc.system import System

HARDNESS, STIFFNESS = 7.0, 20.0  # V/e, V/(e Å²)
WAVES = 128
STEP = 0.01  # Å
RESULTS = Path(__file__).parent / "results" / "charge_equilibration.md"


class Equilibration:
    """The quadratic energy of one geometry."""

    def __init__(self, operator: CoulombOperator) -> None:
        n_atoms = operator.system.n_atoms
        self.operator = operator
        self.stiffness = torch.full((n_atoms, 4), STIFFNESS, dtype=torch.float64)
        self.stiffness[:, 0] = HARDNESS
        generator = torch.Generator().manual_seed(0)
        self.linear = torch.randn(n_atoms, 4, dtype=torch.float64, generator=generator)
        self.is_charge = torch.zeros(n_atoms, 4, dtype=torch.float64)
        self.is_charge[:, 0] = 1

    def jacobi(self) -> Callable[[Tensor], Tensor]:
        """Division by the diagonal."""
        diagonal = (self.stiffness + self.operator.diag()).flatten()
        return lambda r: r / diagonal

    def long_waves(self) -> Callable[[Tensor], Tensor]:
        """As :class:`asesc.models.QEq` does it."""
        waves = self.operator.lowk_basis(WAVES)
        beyond = (self.operator.diag() - waves.square().sum(-1)).clamp(min=0)
        return long_wave_inverse((self.stiffness + beyond).flatten(), waves.flatten(0, 1))

    def solve(
        self,
        precondition: Callable[[Tensor], Tensor],
        tolerance: float,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Solution]:
        """Density (n,) and report."""
        shape = self.linear.shape

        def apply(x: Tensor) -> Tensor:
            p = x.view(shape)
            return (self.operator.potential(p) + self.stiffness * p).flatten()

        x, _, solution = minimise_quadratic_cg(
            apply,
            self.linear.flatten(),
            self.is_charge.flatten(),
            torch.zeros((), dtype=torch.float64),
            start=start,
            precondition=precondition,
            tolerance=tolerance * float(self.linear.abs().max()),
        )
        return x, solution


@torch.no_grad()
def compare(n_atoms: int) -> str:
    """One row."""
    system, _ = water_like(n_atoms, True)
    generator = torch.Generator().manual_seed(1)
    motion = STEP / 3**0.5 * torch.randn(n_atoms, 3, dtype=torch.float64, generator=generator)
    frames = [
        Equilibration(bind(replace(system, positions=system.positions + k * motion)))
        for k in range(4)
    ]
    first = frames[0]
    first.operator.potential(first.linear)  # loads or compiles what is needed
    start = time.process_time()
    inverse = first.long_waves()
    setup = time.process_time() - start
    start = time.process_time()
    cold, solution = first.solve(inverse, 1e-8)
    seconds = time.process_time() - start
    within = [1 + sum(r > t * solution.history[0] for r in solution.history[1:]) for t in (1e-6,)]
    plain = first.solve(first.jacobi(), 1e-8)[1].iterations
    past = [cold, *(frame.solve(frame.long_waves(), 1e-8)[0] for frame in frames[1:3])]
    guesses = (past[2], 3 * past[2] - 3 * past[1] + past[0])
    last = frames[3].long_waves()
    warm = [frames[3].solve(last, 1e-6, start=guess)[1].iterations for guess in guesses]
    return row(
        n_atoms,
        f"{float(system.cell[0, 0, 0]):.0f}",
        plain,
        solution.iterations,
        within[0],
        *warm,
        f"{1e3 * setup:.0f}",
        f"{1e3 * seconds / (solution.iterations + 2):.1f}",
        f"{float(cold.view(-1, 4)[:, 0].sum()):.0e}",
    )


def split_charges(repeats: int) -> str:
    """One row: energy and forces of repeats³ cells of quartz."""
    model = load_model("quartz", dtype="float32")
    atoms = read_structure("quartz").repeat(repeats)
    atoms.rattle(0.05, seed=0)
    start = time.process_time()
    result = energy_and_forces(model, System.from_atoms(atoms))
    seconds = time.process_time() - start
    solution = result.prediction.solution
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return row(len(atoms), solution.method, solution.iterations, f"{seconds:.1f}", f"{peak:.1f}")


def split_charge_table() -> str:
    """Beyond the limit of dense matrices."""
    table = """\
| atoms | method | iterations | energy + forces, s | peak memory of the process, GB |
|---|---|---|---|---|
"""
    for repeats in (3, 4, 6):
        table += split_charges(repeats)
    return table


@torch.no_grad()
def functional_table() -> str:
    """Energies and products until the density stands still."""
    table = """\
| atoms | method | energies | products with J + η | applications of J, with the last steps | CPU s |
|---|---|---|---|---|---|
"""
    options = SCFOptions(dense_limit=0, tolerance=1e-6)
    gentle_model("EnergyFunctional")(System.from_atoms(water_box(24)), scf=options)  # compiles
    for n_atoms in (24, 192, 648, 1536):
        system = System.from_atoms(water_box(n_atoms))
        start = time.process_time()
        solution = gentle_model("EnergyFunctional")(system, scf=options).solution
        seconds = time.process_time() - start
        (stage,) = solution.stages
        counts = stage.maps, stage.products, solution.iterations
        table += row(n_atoms, solution.method, *counts, f"{seconds:.1f}")
    return table


def main(arguments: list[str]) -> None:
    """Print the tables; all of them are also written."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if arguments in (["quartz"], ["functional"]):
        {"quartz": split_charge_table, "functional": functional_table}[arguments[0]]()
        return
    sizes = [int(argument) for argument in arguments]
    table = """\
| atoms | L, Å | diagonal, to 1e-8 | long waves, to 1e-8 | to 1e-6 | warm to 1e-6, last solution \
| extrapolated | waves, ms | ms per iteration | Σq, e |
|---|---|---|---|---|---|---|---|---|---|
"""
    for n_atoms in sizes or (192, 648, 1536, 12_288):
        table += compare(n_atoms)
    if not sizes:
        description = __doc__.split("    pip")[0]
        tables = "\n".join([table, split_charge_table(), functional_table()])
        text = f"# Matrix-free charge equilibration\n\n{description}{tables}"
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
