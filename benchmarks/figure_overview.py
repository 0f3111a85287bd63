"""The picture at the top of the README, drawn from the shipped models.

python benchmarks/figure_overview.py overview.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asesc import SCCalculator
from asesc.cli.run import read_structure
from asesc.electrostatics.gaussian import pair_interaction
from asesc.response import energy_and_forces
from asesc.system import System


def plane_of(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Centre of a molecule and its two longest principal axes, (3,) and (2, 3)."""
    heavy = atoms.positions[atoms.numbers > 1]
    centre = heavy.mean(0)
    _, _, axes = np.linalg.svd(heavy - centre)
    return centre, axes[:2]


def potential_on_plane(
    calc: SCCalculator, atoms: Atoms, points: np.ndarray, field: np.ndarray
) -> np.ndarray:
    """Electrostatic potential of the model's density and of the applied field, V."""
    system = System.from_atoms(atoms, electric_field=field)
    density = energy_and_forces(calc.model, system).prediction.density
    basis = density.basis
    separation = torch.as_tensor(points)[:, None] - system.positions
    width2 = (basis.widths**2).expand(len(points), -1)
    coulomb = pair_interaction(separation, width2, basis.lmax)[..., 0, :]
    potential = torch.einsum("pnm,nm->p", coulomb, density.coefficients.detach())
    return potential.numpy() - points @ field


def draw_potential(axes: Axes, calc: SCCalculator, atoms: Atoms) -> None:
    """Potential in the plane of the molecule, with the atoms in it."""
    centre, (u, v) = plane_of(atoms)
    side = np.linspace(-5, 5, 161)
    x, y = np.meshgrid(side, 0.8 * side)
    points = centre + x.reshape(-1, 1) * u + y.reshape(-1, 1) * v
    values = potential_on_plane(calc, atoms, points, np.zeros(3)).reshape(x.shape)
    limit = np.percentile(np.abs(values), 98)
    image = axes.contourf(
        x, y, values.clip(-limit, limit), np.linspace(-limit, limit, 31), cmap="RdBu_r"
    )
    flat = (atoms.positions - centre) @ np.stack([u, v], axis=1)
    axes.scatter(
        *flat.T,
        s=260 * covalent_radii[atoms.numbers],
        c=jmol_colors[atoms.numbers],
        edgecolors="k",
        linewidths=0.6,
        zorder=3,
    )
    axes.set(xlabel="Å", ylabel="Å", title="potential of the model density", aspect="equal")
    axes.figure.colorbar(image, ax=axes, label="V", shrink=0.8, format="%.1f")


def draw_response(axes: Axes, calc: SCCalculator, atoms: Atoms) -> None:
    """Induced dipole against field along x, beside linear response."""
    fields = np.linspace(-0.4, 0.4, 17)
    atoms.calc = calc
    calc.set(electric_field=(0, 0, 0))
    permanent, alpha = atoms.get_dipole_moment(), calc.get_polarizability(atoms)
    induced = []
    for field in fields:
        calc.set(electric_field=(field, 0, 0))
        induced.append(atoms.get_dipole_moment() - permanent)
    calc.set(electric_field=(0, 0, 0))
    for c, name in enumerate("xyz"):
        axes.plot(fields, np.array(induced)[:, c], "o", ms=4, color=f"C{c}", label=f"Δμ {name}")
        axes.plot(fields, alpha[c, 0] * fields, "-", lw=1, color=f"C{c}")
    axes.set(xlabel="field along x (V/Å)", ylabel="induced dipole (e Å)")
    axes.set_title("N-methylacetamide in a field\n(points: in the field, lines: α·E)")
    axes.legend()


def draw_field_forces(axes: Axes, calc: SCCalculator, crystal: Atoms) -> None:
    """Forces that a field adds in a crystal against Born charges times field."""
    crystal = crystal.repeat(2)
    crystal.rattle(0.03, seed=1)
    crystal.calc = calc
    born = crystal.calc.get_born_effective_charges(crystal)
    without = crystal.get_forces()
    field = np.array([0.02, 0.03, 0.05])
    calc.set(electric_field=tuple(field))
    added = crystal.get_forces() - without
    calc.set(electric_field=(0, 0, 0))
    expected = np.einsum("a,kab->kb", field, born)
    for symbol in sorted(set(crystal.symbols)):
        mask = np.array(crystal.symbols) == symbol
        axes.plot(expected[mask].ravel(), added[mask].ravel(), "o", ms=3, label=symbol)
    ends = [expected.min(), expected.max()]
    axes.plot(ends, ends, color="0.4", lw=0.8)
    axes.set(xlabel="Z*·E (eV/Å)", ylabel="force added by the field (eV/Å)")
    axes.set_title("α-quartz in a field along\na periodic direction")
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    molecule, crystal = read_structure("nma"), read_structure("quartz")
    nma, quartz = SCCalculator("nma"), SCCalculator("quartz")
    figure = Figure(figsize=(12.5, 3.9), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    draw_potential(first, nma, molecule)
    draw_response(second, nma, molecule)
    draw_field_forces(third, quartz, crystal)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
