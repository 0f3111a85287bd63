"""What every family keeps of its contract, for every boundary, charge or Fermi level, and field.

    python benchmarks/conformance.py --processes 2 benchmarks/results/conformance.md

Small random models (those of the tests), whose energies, charges and responses are all of order
one. In float64 forces, stress, ∂E/∂field and ∂E/∂Q (or ∂Ω/∂μ) are held against five-point finite
differences of the energy; rotation, permutation, translation by 1e3 Å, a doubled cell and a partner
in the batch against the structure alone. In float32 (the backbone; electrostatics stay in float64)
differences of the energy say nothing, so that forces and stress are held against those of the same
weights in float64, relative to their largest component, and the invariances are relative to the
largest part of the energy, some 100 eV here: random backbones are steep. The localised functional
has its charge placed on one atom.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from builders import NUMBERS, random_model
from functional_models import PlacedCharge
from torch import Tensor

from asesc.errors import SeveralMinimaWarning
from asesc.models import Potential
from asesc.response import energy_and_forces
from asesc.testing.models import Case, allowed_cases, invariances, measure
from asesc.testing.report import Deviation, largest
from asesc.testing.structures import ALL_PBC

#: The functional whose charge is placed on one atom: left to itself it may find another minimum
#: after the atoms have moved, and has no derivatives there.
_LOCALISED = {"functional": "localised"}
MODELS = (
    ("FixedCharges", {}),
    ("LocalCharges", {}),
    ("SplitCharges", {}),
    ("QEq", {}),
    ("SplitChargeEquilibration", {}),
    ("FixedPoint", {"update": "linear"}),
    ("FixedPoint", {"update": "gated"}),
    ("FixedPoint", {"update": "mlp"}),
    ("EnergyFunctional", {"functional": "convex"}),
    ("EnergyFunctional", _LOCALISED),
)
#: Limit in float32, where the rounding of the backbone is what is seen, 6e-8 of its every number.
_SINGLE = 2e-5


@dataclass(frozen=True)
class Cell:
    """One cell of the table: a model under given conditions in one precision."""

    model: str
    case: str
    dtype: str
    deviations: tuple[Deviation, ...]

    @property
    def worst(self) -> Deviation:
        """The deviation nearest to, or furthest beyond, its limit."""
        return max(self.deviations, key=lambda d: d.value / d.limit)


def double_precision(model: Potential, case: Case) -> Iterator[Deviation]:
    """Every clause of the contract."""
    yield from measure(case.bound(model), case.system)


def _relative(found: Tensor, exact: Tensor) -> float:
    """Largest deviation in units of the largest component."""
    return largest(found - exact) / max(1e-3, largest(exact))


def single_precision(single: Potential, model: Potential, case: Case) -> Iterator[Deviation]:
    """Forces and stress of a float32 copy against the float64 model, and its invariances: all
    relative."""
    has_stress = sum(case.system.pbc) >= 2
    ours, exact = (
        energy_and_forces(m, case.system, stress=has_stress, boundary=case.boundary)
        for m in (single, model)
    )
    why = "rounding of the backbone, relative"
    yield Deviation("forces", _relative(ours.forces, exact.forces), _SINGLE, why)
    if ours.stress is not None and exact.stress is not None:
        yield Deviation("stress", _relative(ours.stress, exact.stress), _SINGLE, why)
    parts = torch.stack([*exact.prediction.contributions.values()])
    scales = {"dipole under rotation": max(1.0, largest(exact.prediction.dipole))}
    for d in invariances(case.bound(single), case.system):
        scale = scales.get(d.what, max(1.0, largest(parts)))
        yield Deviation(d.what, d.value / scale, max(d.limit, _SINGLE), why)


def cells(chosen: tuple[str, dict]) -> tuple[list[Cell], float]:
    """All cells of one model, and the CPU seconds they took."""
    warnings.simplefilter("ignore", SeveralMinimaWarning)
    torch.set_num_threads(1)
    (family, own), start, found = chosen, time.process_time(), []
    name = " ".join([family, *own.values()])
    localised = own == _LOCALISED
    model = random_model(family, **own, seed=2 if localised else 0)
    single = copy.deepcopy(model).set_dtype(torch.float32)
    if localised:
        model, single = PlacedCharge(model), PlacedCharge(single)
    for pbc in ALL_PBC:
        for case in allowed_cases(model, NUMBERS, pbc):
            deviations = {
                "float64": tuple(double_precision(model, case)),
                "float32": tuple(single_precision(single, model, case)),
            }
            for dtype, those in deviations.items():
                found.append(Cell(name, case.name, dtype, those))
                print(f"{name:32s} {case.name:48s} {dtype} {found[-1].worst}", flush=True)
    return found, time.process_time() - start


def summary(table: Sequence[Cell]) -> str:
    """The largest deviation per model and clause in float64, as Markdown."""
    clauses = list(dict.fromkeys(d.what for c in table for d in c.deviations))
    clauses = [c for c in clauses if any(d.what == c for cell in table for d in cell.deviations)]
    head = ["model", "cells", "red", *clauses]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(c.model for c in table):
        ours = [c for c in table if c.model == name and c.dtype == "float64"]
        red = sum(not d.holds for c in table if c.model == name for d in c.deviations)
        largest_of = []
        for clause in clauses:
            values = [d.value for c in ours for d in c.deviations if d.what == clause]
            largest_of.append(f"{max(values):.0e}" if values else "–")
        n = sum(c.model == name for c in table)
        lines.append("| " + " | ".join([name, str(n), str(red), *largest_of]) + " |")
    return "\n".join(lines)


def listing(table: Sequence[Cell]) -> str:
    """Every cell with the clause nearest to its limit, as Markdown."""
    lines = ["| model | case | dtype | clauses | worst | value | limit |", "|---" * 7 + "|"]
    for c in table:
        w = c.worst
        lines.append(
            f"| {c.model} | {c.case} | {c.dtype} | {len(c.deviations)} | {w.what} | {w.value:.1e} "
            f"| {w.limit:.0e}{'' if w.holds else ' **exceeded**'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the summary, write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", help="Markdown file for the tables")
    parser.add_argument("--models", nargs="*", help="only these families")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    chosen = [m for m in MODELS if not options.models or m[0] in options.models]
    with get_context("spawn").Pool(options.processes) as pool:
        parts = list(pool.imap(cells, chosen, chunksize=1))
    table = [cell for part, _ in parts for cell in part]
    red = sum(not d.holds for c in table for d in c.deviations)
    count = sum(len(c.deviations) for c in table)
    report = (
        f"{len(table)} cells, {count} numbers, {red} beyond their limit; "
        f"{sum(seconds for _, seconds in parts):.0f} s of CPU.\n\n{summary(table)}\n"
    )
    print(report)
    if options.output:
        options.output.write_text(f"{report}\n{listing(table)}\n")
    sys.exit(bool(red))


if __name__ == "__main__":
    main()
