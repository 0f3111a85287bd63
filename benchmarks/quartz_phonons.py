"""Phonons and dielectric constants of α-quartz beside published values.

    python benchmarks/quartz_phonons.py --supercell 3,3,3

Relaxes the crystal with the model, prints ε∞, ε0, TO and LO wave numbers at Γ, the violation of the
acoustic sum rule, the lowest mode, elastic and piezoelectric constants and, with --md, the peaks of
the infrared spectrum of molecular dynamics at 300 K. Measured values are those of crystals at room
temperature; PBE, on which the model was trained, is softer by a few per cent.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from phonopy import Phonopy
from rich.console import Console
from rich.table import Table

from asesc import SCCalculator
from asesc.cli.run import read_structure
from asesc.phonons import born_charges, dielectric_response, elastic_response, phonons, relaxed
from asesc.spectra import MomentRecorder, infrared, infrared_from_moments
from asesc.workflows.modes import PER_THZ

#: Electronic part of the Sellmeier formula, Ghosh, Opt. Commun. 163, 95 (1999),
#: doi:10.1016/S0030-4018(99)00091-7: 1 + A + B of the ordinary and extraordinary ray.
HIGH_FREQUENCY = (1 + 0.28604141 + 1.07044083, 1 + 0.28851804 + 1.09509924)

#: Far-infrared refractive indices n_o = 2.106, n_e = 2.154, squared: Russell, Bell, J. Opt. Soc.
#: Am. 57, 341 (1967), doi:10.1364/JOSA.57.000341.
STATIC = (2.106**2, 2.154**2)

#: (TO, LO), cm⁻¹, both ascending, since they alternate along one direction: Scott, Porto, Phys.
#: Rev. 161, 903 (1967), doi:10.1103/PhysRev.161.903.
A2_MODES = ((364, 388), (495, 552), (778, 791), (1080, 1235))
E_MODES = (
    (128, 128),
    (265, 265),
    (394, 401),
    (450, 509),
    (697, 697),
    (795, 807),
    (1072, 1162),
    (1162, 1235),
)

#: Peaks of the 300 K spectrum of the PBE potential of Falletta et al., Nat. Commun. 16 (2025),
#: doi:10.1038/s41467-025-59304-1, cm⁻¹.
PEAKS = (420, 765, 1041)

#: C11, C33, C44, C66, C12, C13, C14 (GPa): Bechmann, Phys. Rev. 110, 1060 (1958),
#: doi:10.1103/PhysRev.110.1060; e11 (C/m²) from the same paper, its sign depends on the hand.
ELASTIC = {"C11": 86.7, "C33": 107.2, "C44": 57.9, "C66": 39.9, "C12": 7.0, "C13": 11.9}
PIEZOELECTRIC = 0.171


def crystal_rows(crystal: Atoms, ph: Phonopy) -> Iterator[tuple[str, float, float, str]]:
    """Name, value of the model, published value and unit."""
    response = dielectric_response(ph)
    for name, tensor, published in (
        ("ε∞", response.high_frequency, HIGH_FREQUENCY),
        ("ε0", response.static, STATIC),
    ):
        yield f"{name} ⟂ c", tensor[0, 0], published[0], ""
        yield f"{name} ∥ c", tensor[2, 2], published[1], ""
    for symmetry, direction, modes in (
        ("A2", (0, 0, 1), A2_MODES),
        ("E", (1, 0, 0), E_MODES),
    ):
        pairs = response.splittings(direction)
        if len(pairs) != len(modes):
            raise SystemExit(f"{len(pairs)} polar {symmetry} modes, {len(modes)} expected")
        for pair, (transverse, longitudinal) in zip(pairs, modes, strict=True):
            yield f"{symmetry} TO", pair.transverse, transverse, "cm⁻¹"
            yield f"{symmetry} LO", pair.longitudinal, longitudinal, "cm⁻¹"
    yield from elastic_rows(crystal)


def elastic_rows(crystal: Atoms) -> Iterator[tuple[str, float, float, str]]:
    response = elastic_response(crystal)
    for name, published in ELASTIC.items():
        row, column = int(name[1]) - 1, int(name[2]) - 1
        yield name, response.elastic_gpa[row, column], published, "GPa"
    yield "|e11|", abs(response.piezoelectric_si[0, 0]), PIEZOELECTRIC, "C/m²"


def peak_rows(crystal: Atoms, picoseconds: float) -> Iterator[tuple[str, float, float, str]]:
    """The peak of the 300 K spectrum nearest to each published one."""
    spectrum = dynamics_spectrum(crystal, picoseconds)
    spectrum.plot("quartz-ir-300K.png", limits=(0, 1400))
    spectrum.to_csv("quartz-ir-300K.csv")
    peaks = spectrum.peaks(threshold=0.03)
    for published in PEAKS:
        yield "IR peak, 300 K", peaks[np.abs(peaks - published).argmin()], published, "cm⁻¹"


def dynamics_spectrum(crystal: Atoms, picoseconds: float, timestep: float = 1.0):
    """Infrared spectrum of a 2 × 2 × 2 cell: a thermostat first, then constant energy."""
    cell = crystal.repeat(2)
    cell.calc = crystal.calc
    random = np.random.default_rng(0)
    thermalize_momenta(cell, 600, rng=random)  # half of it becomes potential energy
    Stationary(cell)
    step = timestep * units.fs
    Bussi(cell, step, temperature_K=300, taut=50 * units.fs, rng=random).run(500)
    recorder, temperatures = MomentRecorder(cell), []
    dynamics = VelocityVerlet(cell, step)
    dynamics.attach(recorder)
    dynamics.attach(lambda: temperatures.append(cell.get_temperature()))
    dynamics.run(int(1e3 * picoseconds / timestep))
    reached = float(np.mean(temperatures))
    title = f"α-quartz, {len(cell)} atoms, {reached:.0f} K, {picoseconds:g} ps"
    return infrared_from_moments(
        recorder.moments, timestep, temperature=reached, resolution=15, title=title
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="quartz")
    parser.add_argument("--supercell", default="3,3,3")
    parser.add_argument("--md", type=float, default=0.0, help="ps of molecular dynamics")
    options = parser.parse_args()
    console = Console()
    crystal = read_structure("quartz")
    crystal.calc = SCCalculator(options.model)
    crystal = relaxed(crystal, cell=True, fmax=5e-4)
    lengths = crystal.cell.lengths()
    console.print(f"a = {lengths[0]:.4f} Å, c = {lengths[2]:.4f} Å; {born_charges(crystal)}")
    supercell = [int(part) for part in options.supercell.split(",")]
    ph = phonons(crystal, supercell, progress=True)
    table = Table(title=f"α-quartz, model {options.model}, supercell {options.supercell}")
    for name in ("quantity", "model", "published", "difference", "unit"):
        table.add_column(name, justify="left" if name in ("quantity", "unit") else "right")
    rows = list(crystal_rows(crystal, ph))
    if options.md:
        rows += peak_rows(crystal, options.md)
    for name, value, published, unit in rows:
        table.add_row(
            name,
            f"{value:.4g}",
            f"{published:.4g}",
            f"{100 * (value / published - 1):+.1f} %",
            unit,
        )
    console.print(table)
    lines = infrared(crystal)
    bright = lines.wavenumbers[lines.intensities > 0.05 * lines.intensities.max()]
    console.print("harmonic IR lines:", ", ".join(f"{value:.0f}" for value in bright), "cm⁻¹")
    sampled = ph.run_mesh([8, 8, 8], is_gamma_center=True)
    lowest = PER_THZ * float(sampled.frequencies[1:].min())  # the first point is Γ
    console.print(f"lowest mode on an 8 × 8 × 8 mesh but Γ: {lowest:.1f} cm⁻¹ (< 0: imaginary)")


if __name__ == "__main__":
    main()
