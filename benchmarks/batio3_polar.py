"""Soft mode, double well and 180° domain wall of tetragonal BaTiO3.

    python benchmarks/batio3_polar.py

works in the cell of the training data (PBE, c/a = 1.085) and writes the modes at Γ of the polar and
of the centrosymmetric crystal, the depth of the double well and the polarisation between them, and
energy and profile of a pair of 180° walls to ``benchmarks/results/batio3_polar.md``, with a picture
beside it. What must be so is listed with yes or no: the centrosymmetric crystal has an unstable
mode that is polar along c, the polar one has none, the well is double, and the walls stay where
they are, about one cell wide. A pair of unstable modes across c in the polar crystal would be the
way to the rhombohedral phase, which BaTiO3 takes when it is cold.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from matplotlib.figure import Figure

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

RESULTS = Path(__file__).parent / "results"


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


def zone_centre_table(responses: Mapping[str, DielectricResponse]) -> str:
    rows = [
        "| crystal | ε∞ ⟂ c | ε∞ ∥ c | transverse optical modes, cm⁻¹ (negative: imaginary) |",
        "|---|---|---|---|",
    ]
    for name, response in responses.items():
        high = response.high_frequency
        modes = " ".join(f"{x:.0f}" for x in response.wavenumbers)
        rows.append(f"| {name} | {high[0, 0]:.3f} | {high[2, 2]:.3f} | {modes} |")
    return "\n".join(rows) + "\n"


def share_along_c(response: DielectricResponse) -> float:
    """How much of its oscillator strength the lowest mode has along c."""
    charge = response.mode_charges[0]
    return float(charge[2] ** 2 / max(float(charge @ charge), 1e-30))


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
    figure.savefig(RESULTS / "batio3_polar.png", dpi=150)


def expectations(
    responses: Mapping[str, DielectricResponse], depth: float, profile: np.ndarray
) -> str:
    """What must be so, with yes or no; profile in units of the bulk."""
    half = len(profile) // 2
    stable, saddle = responses["polar"], responses["centrosymmetric"]
    along = stable.mode_charges[:, 2] ** 2 > 0.5 * (stable.mode_charges**2).sum(axis=1)
    inner = [*profile[1 : half - 1], *(-profile[half + 1 : -1])]
    found = {
        "the centrosymmetric crystal has an unstable mode": saddle.wavenumbers[0] < 0,
        "and that is polar along c": share_along_c(saddle) > 0.99,
        "the polar crystal has none along c": stable.wavenumbers[along].min() > 0,
        "and none across c": stable.wavenumbers[~along].min() > 0,
        "the polar crystal is lower in energy": depth > 0,
        "each domain keeps its direction": (profile[:half] > 0).all()
        and (profile[half:] < 0).all(),
        "one cell from the wall it is that of the bulk within 20 %": min(inner) > 0.8,
    }
    return "\n".join(f"- {what}: {'yes' if so else 'no'}" for what, so in found.items()) + "\n"


def crystals(calc: SCCalculator) -> tuple[Atoms, Atoms]:
    """Centrosymmetric and polar crystal, relaxed at fixed cell."""
    centre, polar = perovskite(0.0), perovskite(0.15)
    centre.calc = polar.calc = calc
    return relaxed(centre, fmax=5e-4), relaxed(polar, fmax=5e-4)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="batio3")
    parser.add_argument("--cells", type=int, default=8, help="along a, of both domains; even")
    return parser.parse_args()


def main() -> None:
    """Print the report and write it to benchmarks/results."""
    options = parsed()
    centre, polar = crystals(SCCalculator(options.model))
    responses = {
        "polar": response_at_zone_centre(polar),
        "centrosymmetric": response_at_zone_centre(centre),
    }
    well = double_well(centre, polar)
    depth = 1e3 * (centre.get_potential_energy() - polar.get_potential_energy())
    pair = walls(polar, centre, options.cells)
    area = pair.cell.lengths()[1] * pair.cell.lengths()[2]
    excess = pair.get_potential_energy() - options.cells * polar.get_potential_energy()
    energy = excess / (2 * area) / (units.J / units.m**2) * 1e3
    bulk = off_centre(polar)[0]
    profile = off_centre(pair)
    shown = " ".join(f"{x / bulk:+.2f}" for x in profile)
    text = "\n".join(
        [
            f"# Tetragonal BaTiO3, model {Path(options.model).name}\n",
            zone_centre_table(responses),
            f"Lowest mode of the centrosymmetric crystal: "
            f"{100 * share_along_c(responses['centrosymmetric']):.0f} % of its strength along c.\n",
            f"Double well: {depth:.1f} meV per BaTiO3 deep, polarisation "
            f"{np.interp(1.0, well[0], well[2]):+.3f} C/m² at its bottom.\n",
            f"180° wall: {energy:.1f} mJ/m² (LDA, whose well is smaller: {WALL_LDA}); Ti off "
            f"centre along a in units of the bulk's {bulk:.3f} Å: {shown}.\n",
            expectations(responses, depth, profile / bulk),
        ]
    )
    print(text)
    (RESULTS / "batio3_polar.md").write_text(text, encoding="utf-8")
    draw(well, profile, Path(options.model).name)


if __name__ == "__main__":
    main()
