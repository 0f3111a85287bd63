"""What ``asesc run`` remembers of every step: the trajectory and a figure.

Frames hold charge, field, spin or Fermi level also where they were options, so that a run that
starts from them goes on with these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory
from rich.progress import Progress, TaskID

from asesc.workflows.records import recorded

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Record:
    """Observer of an optimiser or of molecular dynamics.

    Parameters
    ----------
    atoms : Atoms
        With a calculator.
    path : Path
        Trajectory to write, of :func:`~asesc.records.recorded` frames.
    """

    def __init__(self, atoms: Atoms, path: Path) -> None:
        self.path = path
        self.timestep: float | None = None
        self.fmax: float | None = None
        self._atoms = atoms
        self._trajectory = Trajectory(str(path), "w")
        self._energies: list[float] = []
        self._forces: list[float] = []
        self._kinetic: list[float] = []
        self._temperatures: list[float] = []
        self._bar: tuple[Progress, TaskID] | None = None

    def __call__(self) -> None:
        """Write the present frame."""
        atoms = self._atoms
        self._energies.append(atoms.get_potential_energy())
        self._forces.append(float(np.linalg.norm(atoms.get_forces(), axis=1).max()))
        if self.timestep is not None:
            self._kinetic.append(atoms.get_kinetic_energy())
            self._temperatures.append(atoms.get_temperature())
        self._trajectory.write(recorded(atoms))
        if self._bar is not None:
            progress, task = self._bar
            progress.update(task, completed=len(self._energies) - 1)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[None]:
        """Show a bar while steps are recorded; it stays away where there is no terminal."""
        with Progress(transient=True) as progress:
            self._bar = (progress, progress.add_task(what, total=total))
            yield
        self._bar = None

    def close(self) -> None:
        """Finish the trajectory."""
        self._trajectory.close()

    def plot(self, path: Path, *, title: str) -> Path:
        """Course of energy, force or temperature; for one frame charges and forces per atom."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
        if self.timestep is not None:
            self._plot_dynamics(left, right, self.timestep)
        elif len(self._energies) > 1:
            self._plot_relaxation(left, right)
        else:
            self._plot_atoms(left, right)
        for axes in (left, right):
            axes.grid(alpha=0.25)
        figure.suptitle(title, fontsize=10)
        figure.savefig(path, dpi=150)
        return path

    def _per_atom(self, energies: list[float]) -> np.ndarray:
        """Change since the first frame, meV/atom."""
        return 1e3 * (np.array(energies) - energies[0]) / len(self._atoms)

    def _plot_dynamics(self, left: Axes, right: Axes, timestep: float) -> None:
        times = timestep * np.arange(len(self._energies))
        total = [a + b for a, b in zip(self._energies, self._kinetic, strict=True)]
        left.plot(times, self._per_atom(self._energies), label="potential")
        left.plot(times, self._per_atom(total), label="potential + kinetic")
        left.set(xlabel="time (fs)", ylabel="energy − first (meV/atom)")
        left.legend()
        right.plot(times, self._temperatures)
        right.set(xlabel="time (fs)", ylabel="temperature (K)")

    def _plot_relaxation(self, left: Axes, right: Axes) -> None:
        from matplotlib.ticker import LogLocator, MaxNLocator

        left.plot(self._per_atom(self._energies), ".-")
        left.set(xlabel="step", ylabel="energy − first (meV/atom)")
        right.semilogy(self._forces, ".-")
        if self.fmax is not None:
            right.axhline(self.fmax, color="0.4", ls="--", lw=1, label=f"goal {self.fmax:g} eV/Å")
            right.legend()
        right.set(xlabel="step", ylabel="largest force (eV/Å)")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("")
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    def _plot_atoms(self, left: Axes, right: Axes) -> None:
        atoms = self._atoms
        index = np.arange(len(atoms))
        charges = atoms.get_charges()
        forces = np.linalg.norm(atoms.get_forces(), axis=1)
        for symbol in sorted(set(atoms.symbols)):
            mask = np.array(atoms.symbols) == symbol
            left.plot(index[mask], charges[mask], "o", ms=4, label=symbol)
            right.plot(index[mask], forces[mask], "o", ms=4, label=symbol)
        left.set(xlabel="atom", ylabel="density charge (e)")
        left.axhline(0, color="0.4", lw=0.8)
        left.legend()
        right.set(xlabel="atom", ylabel="|force| (eV/Å)", ylim=(0, None))
