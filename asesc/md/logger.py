"""What the electrons do along a trajectory, one row per step, as CSV or HDF5."""

from __future__ import annotations

import csv
import math
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from asesc.calculators import SCCalculator
from asesc.errors import InputError

#: Names and units of the columns.
COLUMNS = (
    "step",
    "time_fs",
    "energy_eV",
    "temperature_K",
    "charge_e",
    "fermi_level_eV",
    "dipole_x_eA",
    "dipole_y_eA",
    "dipole_z_eA",
    "maps",
    "residual",
)


class ElectronLogger:
    """Observer of molecular dynamics: ``dyn.attach(logger, interval=10)``.

    Every row is on the disk before the next step begins. What a structure does not have is NaN: the
    dipole of three periodic directions, the level of a family without one.

    Parameters
    ----------
    dynamics : ase.md.md.MolecularDynamics
        Any of ASE's; gives step and time.
    path : str or path
        ``.csv``, or ``.h5``/``.hdf5`` with h5py installed: one dataset per column.
    atoms : Atoms, optional
        With an SCCalculator; by default those of the dynamics.
    calculator : SCCalculator, optional
        Where ``atoms.calc`` only contains it, e.g. in a sum.
    append : bool
        Continue an existing file, as after a restart.

    Raises
    ------
    InputError
        For another ending, a file that exists without ``append`` or has other columns, or a
        calculator that reports nothing on electrons.
    """

    def __init__(
        self,
        dynamics: Any,
        path: str | os.PathLike[str],
        *,
        atoms: Atoms | None = None,
        calculator: SCCalculator | None = None,
        append: bool = False,
    ) -> None:
        if not hasattr(dynamics, "get_time"):
            raise InputError(f"{dynamics!r} is no molecular dynamics of ASE: it has no time")
        self._dynamics = dynamics
        self._atoms = dynamics.atoms if atoms is None else atoms
        self._calculator = self._atoms.calc if calculator is None else calculator
        if not isinstance(self._calculator, SCCalculator):
            raise InputError(
                f"the logger needs an SCCalculator, but the atoms have {self._calculator!r}; set "
                "atoms.calc first, or pass calculator=… where it is part of another one"
            )
        path = Path(path)
        if path.suffix not in _WRITERS:
            raise InputError(
                f"{path.name!r} has the ending {path.suffix!r}; choose .csv, .h5 or .hdf5"
            )
        if path.exists() and not append:
            raise InputError(
                f"{path} exists; remove it, choose another name, or continue it with append=True"
            )
        self._write = _WRITERS[path.suffix](path)

    def __call__(self) -> None:
        """Add the present step."""
        self._write(self._row())

    def _row(self) -> tuple[float, ...]:
        atoms, calculator = self._atoms, self._calculator
        energy = atoms.get_potential_energy()
        results, extras, scf = calculator.results, calculator.extras, calculator.scf
        return (
            self._dynamics.nsteps,
            self._dynamics.get_time() / units.fs,
            energy,
            atoms.get_temperature(),
            extras.get("charge", math.nan),
            results.get("fermi_level", math.nan),
            *np.asarray(results.get("dipole", [math.nan] * 3), dtype=float),
            scf.iterations if scf is not None else math.nan,
            scf.residual if scf is not None else math.nan,
        )


class _Csv:
    """Comma-separated, numbers to the last digit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                _require_columns(path, next(csv.reader(file), []))
        else:
            self._append(COLUMNS)

    def __call__(self, row: tuple[float, ...]) -> None:
        self._append([repr(value) if isinstance(value, int) else f"{value:.17g}" for value in row])

    def _append(self, cells: Any) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(cells)


class _Hdf5:
    """One growing dataset per column."""

    def __init__(self, path: Path) -> None:
        try:
            self._h5py = import_module("h5py")
        except ImportError as error:
            raise InputError(
                f"{path.name} needs h5py, which is not installed: pip install asesc[hdf5], or "
                "choose a name that ends in .csv"
            ) from error
        self._path = path
        with self._h5py.File(path, "a") as file:
            if list(file):
                _require_columns(path, sorted(file), sorted(COLUMNS))
                return
            for name in COLUMNS:
                file.create_dataset(name, (0,), maxshape=(None,), dtype="f8", chunks=(1024,))

    def __call__(self, row: tuple[float, ...]) -> None:
        with self._h5py.File(self._path, "a") as file:
            for name, value in zip(COLUMNS, row, strict=True):
                column = file[name]
                column.resize((len(column) + 1,))
                column[-1] = value


_WRITERS = {".csv": _Csv, ".h5": _Hdf5, ".hdf5": _Hdf5}


def _require_columns(path: Path, found: list[str], columns: Any = COLUMNS) -> None:
    if list(found) != list(columns):
        raise InputError(
            f"{path} has the columns {', '.join(found) or '(none)'} and was not written by this "
            "logger; choose another name"
        )
