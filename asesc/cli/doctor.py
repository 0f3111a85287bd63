"""``asesc doctor``: does this installation give right numbers, and how fast?"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ase import Atoms

_PACKAGES = ("asesc", "torch", "mace-torch", "e3nn", "ase", "numpy", "vesin", "safetensors")
_STEP = 1e-4


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    value: str
    passed: bool
    fix: str = ""


def doctor(
    model: Annotated[str | None, typer.Option(help="Model to test; default: the first.")] = None,
) -> None:
    """Versions, device, and whether derivatives of a real model are right on this machine.

    Example: `asesc doctor`
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    checks = [*_versions(), *_device(), *_model_checks(model)]
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
    fast = "cuequivariance" if find_spec("cuequivariance_torch") else "e3nn (cuequivariance absent)"
    return [
        Check("device", name, True),
        Check("backbone kernels", fast, True),
        Check("neighbour list", "vesin", True),
        Check("boundaries", ", ".join(BOUNDARIES), True),
    ]


def _model_checks(name: str | None) -> list[Check]:
    from asesc.calculators import SCCalculator
    from asesc.cli.run import read_structure
    from asesc.pretrained import find_model, list_models

    available = [m for m in list_models() if (find_model(m) / "example.xyz").is_file()]
    if name is None and not available:
        return [Check("models", "none found", False, "set ASESC_MODELS to a folder of models")]
    name = name or available[0]
    start = time.perf_counter()
    # The tiny fields of the check are harmless for a model that was trained without.
    calc = SCCalculator(name, allow_extrapolation=True)
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
    checks = [Check(f"model {name}", times, True), _force_check(atoms)]
    if calc.model.has_itinerant_polarisation or not atoms.pbc.any():
        checks.append(_field_check(atoms))
    return checks


def _force_check(atoms: Atoms) -> Check:
    from ase.calculators.fd import calculate_numerical_forces

    analytic = atoms.get_forces()[0]
    numerical = calculate_numerical_forces(atoms, eps=_STEP, iatoms=[0])[0]
    error = float(abs(analytic - numerical).max())
    return Check(
        "force − finite difference",
        f"{error:.1e} eV/Å",
        error < 1e-6,
        "forces are wrong: reinstall with the constraints file",
    )


def _field_check(atoms: Atoms) -> Check:
    """dE/dE_field = −μ by central differences along z."""
    calc = atoms.calc
    energies, moments = [], []
    for sign in (+1, -1, 0):
        calc.set(electric_field=(0, 0, sign * _STEP))
        energies.append(atoms.get_potential_energy())
        moments.append(_moment(atoms))
    slope = (energies[0] - energies[1]) / (2 * _STEP)
    error = abs(slope + moments[2])
    return Check(
        "dE/dField + dipole",
        f"{error:.1e} e Å",
        error < 1e-6,
        "the dipole does not belong to the energy: reinstall with the constraints file",
    )


def _moment(atoms: Atoms) -> float:
    if atoms.pbc.all():
        return float(atoms.calc.get_property("polarization", atoms)[2] * atoms.get_volume())
    return float(atoms.get_dipole_moment()[2])
