"""What ``asesc run`` remembers of every step: the trajectory and a figure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.io.trajectory import Trajectory
from rich.progress import Progress, TaskID

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Record:
    """Observer of an optimiser or of molecular dynamics.

    Parameters
    ----------
    atoms : Atoms
        With a calculator.
    path : Path
        Trajectory to write.
    """

    def __init__(self, atoms: Atoms, path: Path) -> None:
        self.path = path
        self.timestep: float | None = None
        self._atoms = atoms
        self._trajectory = Trajectory(str(path), "w", atoms)
        self._energies: list[float] = []
        self._forces: list[float] = []
        self._temperatures: list[float] = []
        self._bar: tuple[Progress, TaskID] | None = None

    def __call__(self) -> None:
        """Write the present frame, once per geometry."""
        atoms = self._atoms
        if self._energies and self._same_as_last():
            return
        self._energies.append(atoms.get_potential_energy())
        self._forces.append(float(np.linalg.norm(atoms.get_forces(), axis=1).max()))
        self._temperatures.append(atoms.get_temperature())
        self._last = atoms.positions.copy()
        self._trajectory.write()
        if self._bar is not None:
            progress, task = self._bar
            progress.update(task, completed=len(self._energies) - 1)

    def _same_as_last(self) -> bool:
        return np.array_equal(self._last, self._atoms.positions)

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
        """Course of energy, force and temperature; for one frame charges and forces per atom."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        if len(self._energies) == 1:
            self._plot_atoms(left, right)
        else:
            self._plot_course(left, right)
        figure.suptitle(title, fontsize=10)
        figure.savefig(path, dpi=150)
        return path

    def _plot_course(self, left: Axes, right: Axes) -> None:
        dynamics = self.timestep is not None
        steps = np.arange(len(self._energies)) * (self.timestep or 1)
        name = "time (fs)" if dynamics else "step"
        energies = np.array(self._energies) - self._energies[0]
        left.plot(steps, 1e3 * energies / len(self._atoms), "-" if dynamics else ".-")
        left.set(xlabel=name, ylabel="potential energy − first (meV/atom)")
        if dynamics:
            right.plot(steps, self._temperatures)
            right.set(xlabel=name, ylabel="temperature (K)")
        else:
            right.semilogy(steps, self._forces, ".-")
            right.set(xlabel=name, ylabel="largest force (eV/Å)")

    def _plot_atoms(self, left: Axes, right: Axes) -> None:
        atoms = self._atoms
        index = np.arange(len(atoms))
        charges = atoms.get_charges()
        forces = np.linalg.norm(atoms.get_forces(), axis=1)
        for symbol in sorted(set(atoms.symbols)):
            mask = np.array(atoms.symbols) == symbol
            left.plot(index[mask], charges[mask], "o", ms=4, label=symbol)
            right.plot(index[mask], forces[mask], "o", ms=4, label=symbol)
        left.set(xlabel="atom", ylabel="charge of the model density (e)")
        left.legend()
        right.set(xlabel="atom", ylabel="|force| (eV/Å)", ylim=(0, None))
