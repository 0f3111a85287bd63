"""Operators, errors and rows of tables that the benchmarks of the Coulomb operator share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from electrostatics import SIGMA
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics import CoulombOperator, boundary_for
from asesc.system import System


def bind(
    system: System, *, width: float = SIGMA, lmax: int = 1, **keywords: Any
) -> CoulombOperator:
    """The operator of a system with one width."""
    widths = torch.full_like(system.positions[:, 0].detach(), width)
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


def row(*cells: Any) -> str:
    """One line of a table; also printed."""
    line = "| " + " | ".join(str(cell) for cell in cells) + " |"
    print(line, flush=True)
    return line + "\n"


def put_table(path: Path, heading: str, table: str, origin: str) -> None:
    """Put a table, its title first, and how it was made into a file, in place of the last one.

    ``heading`` is what the file begins with; tables that it has under other titles stay.
    """
    written = path.read_text(encoding="utf-8").split("\n## ")[1:] if path.exists() else []
    sections = {title: text.strip() for title, _, text in (s.partition("\n") for s in written)}
    title, _, rows = table.partition("\n")
    sections[title.removeprefix("## ")] = f"{rows.strip()}\n\n{origin}"
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    path.write_text(f"{heading}\n\n{body}\n", encoding="utf-8")
