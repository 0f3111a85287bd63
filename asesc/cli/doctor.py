"""``asesc doctor``: does this installation give right numbers, and how fast?"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

if TYPE_CHECKING:
    from ase import Atoms

_PACKAGES = ("asesc", "torch", "mace-torch", "e3nn", "ase", "numpy", "vesin", "safetensors")
_STEP = 3e-5  # Å or V/Å; rounding of energies and the third derivative both stay below 1e-7
_TOLERANCE = 1e-6  # eV/Å or e Å


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    value: str
    passed: bool
    fix: str = ""


def doctor(
    model: Annotated[str | None, typer.Option(help="Model to test; default: the first.")] = None,
    kernels: Annotated[
        str,
        typer.Option(help="Of the backbone, compared with torch: compiled, cuequivariance."),
    ] = "torch",
) -> None:
    """Versions, device, and whether derivatives of a real model are right on this machine.

    Example: `asesc doctor`
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    checks = [*_versions(), *_device(), *_model_checks(model, kernels)]
    table = Table(title="asesc doctor")
    for column in ("check", "result", ""):
        table.add_column(column)
    for check in checks:
        mark = "[green]ok[/]" if check.passed else f"[red]{check.fix}[/]"
        table.add_row(check.name, check.value, mark)
    console.print(table)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def _versions() -> list[Check]:
    checks = [Check("python", platform.python_version(), True)]
    for package in _PACKAGES:
        try:
            checks.append(Check(package, version(package), True))
        except PackageNotFoundError:
            checks.append(Check(package, "missing", False, f"pip install {package}"))
    return checks


def _device() -> list[Check]:
    import torch

    from asesc.electrostatics import BOUNDARIES

    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    return [Check("device", name, True), Check("boundaries", ", ".join(BOUNDARIES), True)]


def _model_checks(name: str | None, kernels: str) -> list[Check]:
    from asesc.calculators import SCCalculator
    from asesc.cli.run import read_structure
    from asesc.pretrained import find_model, list_models

    available = [m for m in list_models() if (find_model(m) / "example.xyz").is_file()]
    if name is None and not available:
        return [Check("models", "none found", False, "set ASESC_MODELS to a folder of models")]
    name = name or available[0]
    start = time.perf_counter()
    # The tiny fields of the check are harmless for a model that was trained without.
    calc = SCCalculator(name, kernels=kernels, allow_extrapolation=True)
    loaded = time.perf_counter()
    atoms = read_structure(name)
    atoms.rattle(0.02, seed=0)
    atoms.calc = calc
    atoms.get_forces()
    first = time.perf_counter()
    atoms.rattle(0.001, seed=1)
    atoms.get_forces()
    again = time.perf_counter()
    times = (
        f"load {loaded - start:.2f} s, first call {first - loaded:.2f} s, then "
        f"{again - first:.2f} s for {len(atoms)} atoms"
    )
    checks = [Check(f"model {name}", times, True), *_engines(atoms), _force_check(atoms)]
    if calc.model.has_itinerant_polarisation or not atoms.pbc.any():
        checks.append(_field_check(atoms))
    return checks


def _engines(atoms: Atoms) -> list[Check]:
    """What computed the numbers, asked of the objects that do."""
    from asesc.electrostatics import boundary_for
    from asesc.models.base import Model
    from asesc.system import System

    model = atoms.calc.model
    checks = [_kernel_check(atoms)]
    if isinstance(model, Model):
        system = System.from_atoms(atoms)
        boundary = boundary_for("auto", system.pbc)
        operator = boundary.bind(system, model.basis(system))
        engine = f"{type(operator).__name__}, {boundary.name} boundary; {atoms.calc.scf}"
        checks.append(Check("Coulomb engine", engine, True))
    return checks


def _kernel_check(atoms: Atoms) -> Check:
    """Which kernels compute the backbone; other ones than those of torch against these."""
    kernels = atoms.calc.model.kernels
    if kernels == "torch":
        return Check("backbone kernels", kernels, True)
    start = time.perf_counter()
    forces = atoms.calc.evaluate(atoms).results["forces"]
    middle = time.perf_counter()
    ordinary = atoms.calc.clone()
    ordinary.set(kernels="torch")
    ordinary.evaluate(atoms)
    last = time.perf_counter()
    error = np.abs(forces - ordinary.evaluate(atoms).results["forces"]).max()
    again = time.perf_counter() - last
    return Check(
        "backbone kernels",
        f"{kernels}, {middle - start:.2f} s; torch, {again:.2f} s; forces differ by "
        f"{error:.1e} eV/Å",
        bool(error < _KERNEL_TOLERANCE),
        "kernels disagree: match the versions of the packages that compute them, or take torch",
    )


_KERNEL_TOLERANCE = 1e-8  # eV/Å, float64


def _force_check(atoms: Atoms) -> Check:
    """Three atoms in three directions each, and all atoms along one random direction."""
    random = np.random.default_rng(2)
    forces, positions = atoms.get_forces(), atoms.positions.copy()
    chosen = random.choice(len(atoms), size=min(3, len(atoms)), replace=False)
    directions = np.zeros((3 * len(chosen) + 1, len(atoms), 3))
    for n, atom in enumerate(chosen):
        directions[3 * n : 3 * n + 3, atom] = np.eye(3)
    directions[-1] = random.normal(size=positions.shape)
    directions[-1] /= np.linalg.norm(directions[-1])

    def energy(direction: np.ndarray, step: float) -> float:
        atoms.positions = positions + step * direction
        return atoms.get_potential_energy()

    slopes = [_slope(partial(energy, direction)) for direction in directions]
    atoms.positions = positions
    error = np.abs(slopes + np.einsum("dia,ia->d", directions, forces)).max()
    return Check(
        "force − finite difference",
        f"{error:.1e} eV/Å in {len(directions)} directions, one of them of all atoms",
        bool(error < _TOLERANCE),
        "forces are wrong: reinstall with the constraints file",
    )


def _field_check(atoms: Atoms) -> Check:
    """dE/dE_field = −μ along three axes and one random direction."""
    direction = np.random.default_rng(3).normal(size=3)
    directions = np.vstack([np.eye(3), direction / np.linalg.norm(direction)])

    def energy(direction: np.ndarray, step: float) -> float:
        atoms.calc.set(electric_field=step * direction)
        return atoms.get_potential_energy()

    slopes = [_slope(partial(energy, direction)) for direction in directions]
    atoms.calc.set(electric_field=(0, 0, 0))
    atoms.get_potential_energy()
    error = np.abs(slopes + directions @ atoms.calc.extras["conjugate_dipole"]).max()
    return Check(
        "dE/dField + dipole",
        f"{error:.1e} e Å in {len(directions)} directions",
        bool(error < _TOLERANCE),
        "the dipole does not belong to the energy: reinstall with the constraints file",
    )


def _slope(energy: Callable[[float], float]) -> float:
    return (energy(_STEP) - energy(-_STEP)) / (2 * _STEP)
