"""Molecular dynamics of α-quartz at 300 K for its infrared spectrum, in pieces that go on.

    python benchmarks/quartz_dynamics.py quartz-md --picoseconds 15

runs 72 atoms in the cell of the training data at constant energy, from positions and velocities of
harmonic modes at 300 K. The folder keeps a restart file and one row per step (dipole, temperature,
total energy) for each seed. Called again, a run that was stopped goes on from its last 0.1 ps;
another ``--seed`` is another trajectory, and ``python benchmarks/quartz_phonons.py --md quartz-md``
averages over all of them. Positions are float64 and so are electrostatics; the backbone works in
float32, which moves forces by less than 1e-4 eV/Å.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.geometry import find_mic
from ase.md.velocitydistribution import PhononHarmonics, Stationary
from ase.md.verlet import VelocityVerlet
from phonopy.harmonic.force_constants import compact_fc_to_full_fc
from rich.progress import track

from asesc import SCCalculator
from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.md import load_restart, save_restart
from asesc.phonons import phonons, relaxed
from asesc.spectra import (
    Spectrum,
    infrared_from_moments,
    unwrapped_moments,
    without_verlet_shift,
)
from asesc.workflows.polarisation import moment

#: a and c of the training data, Å: 9.971 × 8.635 × 10.957 is 2 × √3 × 2 of the hexagonal cell.
LABELLED_CELL = (9.971 / 2, 10.957 / 2)

TIMESTEP = 2.0  # fs; what that shifts the spectrum by is taken back
PIECE = 50  # steps between restart files

_COLUMNS = ("step", "dipole x (e Å)", "y", "z", "temperature (K)", "energy (meV/atom)")


def labelled_cell() -> Atoms:
    """Primitive cell with the lattice constants of the training data."""
    crystal = read_structure("quartz")
    a, c = LABELLED_CELL
    crystal.set_cell([a, a, c, 90, 90, 120], scale_atoms=True)
    return crystal


@dataclass(frozen=True)
class Trajectory:
    """Files of one seed."""

    folder: Path
    seed: int
    model: str

    @property
    def restart(self) -> Path:
        return self.folder / f"seed{self.seed}.npz"

    @property
    def rows(self) -> Path:
        return self.folder / f"seed{self.seed}.csv"

    def run(self, atoms: Atoms, steps: int) -> None:
        """Start or go on; atoms have a calculator."""
        done = load_restart(self.restart, atoms) if self.restart.exists() else self._start(atoms)
        self._forget_after(done)
        dynamics = VelocityVerlet(atoms, TIMESTEP * units.fs)
        for first in track(range(done, steps, PIECE), f"seed {self.seed}", transient=True):
            rows = []
            for step in range(first + 1, first + PIECE + 1):
                dynamics.run(1)
                rows.append((step, *_observed(atoms)))
            with self.rows.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
            save_restart(self.restart, atoms, step=first + PIECE)

    def _start(self, atoms: Atoms) -> int:
        """Positions and velocities of classical harmonic modes at 300 K, as in equilibrium."""
        crystal = labelled_cell()
        crystal.calc = SCCalculator(self.model)
        ph = phonons(relaxed(crystal, fmax=5e-4), (2, 2, 2), nac=False, progress=False)
        constants = ph.force_constants
        if len(constants) < len(atoms):
            constants = compact_fc_to_full_fc(ph.primitive, constants)
        start = Atoms(ph.supercell.symbols, positions=ph.supercell.positions, cell=atoms.cell)
        order = nearest_atoms(atoms, start)
        atoms.positions += find_mic(start.positions[order] - atoms.positions, atoms.cell)[0]
        constants = constants[np.ix_(order, order)].transpose(0, 2, 1, 3)
        matrix = constants.reshape(3 * len(atoms), 3 * len(atoms))
        PhononHarmonics(
            atoms, matrix, temperature_K=300, rng=np.random.RandomState(self.seed), quantum=False
        )
        Stationary(atoms)
        with self.rows.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(_COLUMNS)
        save_restart(self.restart, atoms)
        return 0

    def _forget_after(self, step: int) -> None:
        """Rows of a piece whose restart file was not written come again."""
        header, *lines = self.rows.read_text(encoding="utf-8").splitlines()
        self.rows.write_text("\n".join([header, *lines[:step]]) + "\n", encoding="utf-8")


def nearest_atoms(atoms: Atoms, others: Atoms) -> list[int]:
    """For every atom the one of the others at its site."""
    sites = others.positions
    return [int(find_mic(sites - place, atoms.cell)[1].argmin()) for place in atoms.positions]


def _observed(atoms: Atoms) -> tuple[float, ...]:
    energy = 1e3 * atoms.get_total_energy() / len(atoms)
    # The centre of mass does not move.
    temperature = atoms.get_temperature() * len(atoms) / (len(atoms) - 1)
    return *(float(x) for x in moment(atoms.calc, atoms)), temperature, energy


@dataclass(frozen=True)
class Dynamics:
    """Averages over all trajectories of a folder.

    Parameters
    ----------
    spectrum : Spectrum
    picoseconds, temperature : float
        Total length, and mean temperature in K.
    drift : float, meV/atom/ps
        Slope of the total energy, the largest of the trajectories.
    resolution : float, cm⁻¹
    """

    spectrum: Spectrum
    picoseconds: float
    temperature: float
    drift: float
    resolution: float


def averaged(folder: Path, *, model: str, resolution: float = 20.0) -> Dynamics:
    """Spectra of all seeds, weighted with their lengths."""
    tables = [
        np.loadtxt(path, delimiter=",", skiprows=1) for path in sorted(folder.glob("seed*.csv"))
    ]
    if not tables:
        raise SystemExit(f"{folder} holds no seed*.csv; run benchmarks/quartz_dynamics.py first")
    cell = labelled_cell().repeat(2).cell.array
    curves, lengths = [], [len(table) for table in tables]
    for table in tables:
        moments = unwrapped_moments(table[:, 1:4], cell)
        raw = infrared_from_moments(
            moments, TIMESTEP, temperature=table[:, 4].mean(), resolution=resolution
        )
        curves.append(without_verlet_shift(raw, TIMESTEP))
    # One grid for all: that of the longest.
    grid = curves[int(np.argmax(lengths))].wavenumbers
    heights = [np.interp(grid, curve.wavenumbers, curve.intensities) for curve in curves]
    temperature = float(np.average([t[:, 4].mean() for t in tables], weights=lengths))
    picoseconds = 1e-3 * TIMESTEP * sum(lengths)
    spectrum = Spectrum(
        grid,
        np.average(heights, axis=0, weights=lengths),
        curves[0].quantity,
        curves[0].unit,
        f"α-quartz · model {model} · 72 atoms, {temperature:.0f} K, {picoseconds:.1f} ps",
    )
    slopes = [np.polyfit(1e-3 * TIMESTEP * t[:, 0], t[:, 5], 1)[0] for t in tables]
    drift = float(max(slopes, key=abs))
    return Dynamics(spectrum, picoseconds, temperature, drift, resolution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="quartz")
    parser.add_argument("--picoseconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    options.folder.mkdir(parents=True, exist_ok=True)
    atoms = labelled_cell().repeat(2)
    atoms.calc = SCCalculator(options.model, dtype="float32")
    steps = round(1e3 * options.picoseconds / TIMESTEP)
    Trajectory(options.folder, options.seed, options.model).run(atoms, steps)


if __name__ == "__main__":
    main()
