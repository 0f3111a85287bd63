"""Soft mode, double well and 180° domain wall of tetragonal BaTiO3.

    python benchmarks/batio3_polar.py

works in the cell of the training data (PBE, c/a = 1.085) and prints the modes at Γ of the polar and
of the centrosymmetric crystal, the depth of the double well and the polarisation between them, and
energy and profile of a pair of 180° walls, with a picture ``batio3-polar.png``. The polar crystal
must be a minimum, the centrosymmetric one must have an unstable mode that is polar along c, and the
walls must stay where they are, about one cell wide.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from ase import Atoms, units
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from asesc import SCCalculator
from asesc.phonons import (
    DielectricResponse,
    ImaginaryModesWarning,
    dielectric_response,
    phonons,
    relaxed,
)
from asesc.workflows.polarisation import moment, nearest_branch

#: a and c of the training data, Å: 11.89825 and 12.91208 for three cells.
CELL = (11.89825386 / 3, 12.91207693 / 3)

#: 180° wall between {100} planes, mJ/m²: B. Meyer, D. Vanderbilt, Phys. Rev. B 65, 104111 (2002),
#: doi:10.1103/PhysRevB.65.104111 (LDA, whose tetragonality and well are smaller than PBE's).
WALL_LDA = 7.5

_SQUARE_METRE = units.m**2 / units.C  # e/Å² to C/m²


def perovskite(shift: float) -> Atoms:
    """Five atoms; titanium moved up and oxygen down along c by parts of ``shift``, Å."""
    a, c = CELL
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    atoms = Atoms("BaTiO3", scaled_positions=places, cell=(a, a, c), pbc=True)
    atoms.positions[:, 2] += shift * np.array([0.0, 0.5, -1.0, -0.7, -0.7])
    return atoms


def response_at_zone_centre(atoms: Atoms) -> DielectricResponse:
    """Force constants of one cell are exact at Γ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImaginaryModesWarning)
        return dielectric_response(phonons(atoms, (1, 1, 1), progress=False))


def double_well(centre: Atoms, polar: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of the way from the centre, energies (meV) and polarisation along c (C/m²)."""
    way = find_mic(polar.positions - centre.positions, polar.cell)[0]
    shares, energies, dipoles = np.linspace(0, 1.3, 14), [], []
    for share in shares:
        frame = centre.copy()
        frame.positions += share * way
        dipole = moment(centre.calc, frame)
        if dipoles:
            dipole = nearest_branch(dipole, dipoles[-1], frame.cell.array)
        dipoles.append(dipole)
        energies.append(centre.calc.get_property("energy", frame))
    change = (np.array(dipoles) - dipoles[0])[:, 2] / centre.get_volume()
    return shares, 1e3 * (np.array(energies) - energies[0]), change * _SQUARE_METRE


def walls(polar: Atoms, centre: Atoms, cells: int) -> Atoms:
    """Half of the cells along a polarised up and half down, relaxed at fixed cell."""
    up = polar.positions - centre.positions
    atoms = centre.repeat((cells, 1, 1))
    for cell in range(cells):
        sign = 1 if cell < cells // 2 else -1
        atoms.positions[5 * cell : 5 * cell + 5] += sign * up
    atoms.calc = polar.calc
    return relaxed(atoms, fmax=5e-3)


def off_centre(atoms: Atoms) -> np.ndarray:
    """Height of every Ti above the mean of its six oxygens, in the order along a, Å."""
    first, second, distance, bond = neighbor_list("ijdD", atoms, 3.2)
    titanium = np.flatnonzero(atoms.symbols == "Ti")
    heights = []
    for index in titanium[np.argsort(atoms.positions[titanium, 0])]:
        mine = (first == index) & (atoms.numbers[second] == 8)
        nearest = np.argsort(distance[mine])[:6]
        heights.append(-bond[mine][nearest, 2].mean())
    return np.array(heights)


def zone_centre_table(responses: dict[str, DielectricResponse]) -> Table:
    table = Table(title="zone centre")
    for name in ("crystal", "ε∞ ⟂ c", "ε∞ ∥ c", "transverse optical modes, cm⁻¹ (< 0: imaginary)"):
        table.add_column(name)
    for name, response in responses.items():
        high = response.high_frequency
        modes = " ".join(f"{x:.0f}" for x in response.wavenumbers)
        table.add_row(name, f"{high[0, 0]:.3f}", f"{high[2, 2]:.3f}", modes)
    return table


def soft_mode(response: DielectricResponse) -> str:
    """How much of its charge the most unstable mode has along c."""
    charge = response.mode_charges[0]
    share = charge[2] ** 2 / max(float(charge @ charge), 1e-30)
    return (
        f"centrosymmetric: lowest mode {response.wavenumbers[0]:.0f} cm⁻¹ (< 0: imaginary), "
        f"{100 * share:.0f} % of its oscillator strength along c"
    )


def draw(well: tuple[np.ndarray, np.ndarray, np.ndarray], profile: np.ndarray, model: str) -> None:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _, energies, polarisation = well
    left.plot([*-polarisation[::-1], *polarisation], [*energies[::-1], *energies], "o-", ms=3)
    left.set(xlabel="polarisation along c (C/m²)", ylabel="energy (meV per BaTiO$_3$)")
    right.plot(np.arange(len(profile)), profile, "o-")
    right.axhline(0, color="0.5", lw=0.8)
    right.set(xlabel="cell along a", ylabel="Ti above its oxygens (Å)")
    left.set_title("double well", fontsize=10)
    right.set_title("180° walls", fontsize=10)
    figure.suptitle(f"tetragonal BaTiO$_3$ · model {model}", fontsize=11)
    figure.savefig("batio3-polar.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="batio3")
    parser.add_argument("--cells", type=int, default=8, help="along a, of both domains; even")
    options, console = parser.parse_args(), Console()
    calc = SCCalculator(options.model)
    centre, polar = perovskite(0.0), perovskite(0.15)
    centre.calc = polar.calc = calc
    centre, polar = relaxed(centre, fmax=5e-4), relaxed(polar, fmax=5e-4)
    responses = {
        "polar": response_at_zone_centre(polar),
        "centrosymmetric": response_at_zone_centre(centre),
    }
    console.print(zone_centre_table(responses))
    console.print(soft_mode(responses["centrosymmetric"]))
    well = double_well(centre, polar)
    depth = centre.get_potential_energy() - polar.get_potential_energy()
    console.print(
        f"double well: {1e3 * depth:.1f} meV per BaTiO3 deep, polarisation "
        f"{np.interp(1.0, well[0], well[2]):.3f} C/m² at its bottom"
    )
    pair = walls(polar, centre, options.cells)
    area = pair.cell.lengths()[1] * pair.cell.lengths()[2]
    excess = pair.get_potential_energy() - options.cells * polar.get_potential_energy()
    energy = excess / (2 * area) / (units.J / units.m**2) * 1e3
    profile, bulk = off_centre(pair), off_centre(polar)[0]
    console.print(f"180° wall: {energy:.1f} mJ/m² ({WALL_LDA} in LDA)")
    shown = " ".join(f"{x / bulk:+.2f}" for x in profile)
    console.print(f"Ti off centre along a, in units of the bulk's {bulk:.3f} Å: {shown}")
    draw(well, profile, options.model)


if __name__ == "__main__":
    main()
