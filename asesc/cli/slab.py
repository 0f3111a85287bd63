"""``asesc slab``: potential profile, work functions, capacitance, cube files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from asesc.cli.run import (
    Charge,
    Device,
    Dtype,
    Extrapolate,
    Field,
    Kernels,
    ModelName,
    Output,
    Structure,
    attach_calculator,
    output_prefix,
    read_structure,
)
from asesc.errors import InputError, PropertyUnavailableError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.table import Table

    from asesc.slabs import Capacitance, PotentialProfile

_AXIS = "Cell vector a, b or c across the layers; default: the open one."
_OPEN = "Let the structure end along --axis, in the middle of its vacuum."
_PERIOD = "Distance after which layers repeat, Å: draw the macroscopic average."
_CAPACITANCE = "Capacitance against planes at this distance from the nuclei, Å."
Axis = Annotated[str | None, typer.Option(help=_AXIS)]
Open = Annotated[bool, typer.Option("--open", help=_OPEN)]
Period = Annotated[float | None, typer.Option(min=0.1, help=_PERIOD)]
Distance = Annotated[float | None, typer.Option("--capacitance", min=0.1, help=_CAPACITANCE)]
Cube = Annotated[bool, typer.Option("--cube", help="Write potential and charge on a grid too.")]


def slab(
    structure: Structure,
    model: ModelName,
    axis: Axis = None,
    open_: Open = False,
    period: Period = None,
    charge: Charge = None,
    field: Field = None,
    capacitance: Distance = None,
    cube: Cube = False,
    output: Output = None,
    dtype: Dtype = "float64",
    device: Device = "auto",
    kernels: Kernels = "torch",
    allow_extrapolation: Extrapolate = False,
) -> None:
    """Potential and charge averaged over the layers of a slab or a crystal.

    Example: `asesc slab quartz --model quartz --axis c --period 1.833 --cube` averages over the
    planes across c of the crystal that ships with the model, and over the 1.833 Å after which its
    layers repeat; it writes `quartz-profile.csv`, `quartz-profile.png`, `quartz-potential.cube` and
    `quartz-charge.cube`. For a slab (pbc along two directions, or a cell with vacuum and `--open`)
    it prints the vacuum levels of both sides, the dipole step and the work functions.
    """
    start = time.perf_counter()
    number = None if axis is None else _number(axis)
    prefix = output_prefix(structure, output)
    atoms = read_structure(structure)
    if open_:
        atoms = _opened(atoms, number)
    from rich.console import Console

    from asesc import slabs
    from asesc.cli.report import written_line

    options = {"dtype": dtype, "device": device, "kernels": kernels}
    options |= {"allow_extrapolation": allow_extrapolation}
    # The charge per cell of a slab follows from a surface charge and need not be whole.
    options["allow_fractional_charge"] = True
    attach_calculator(atoms, model, charge, field, options)
    profile = slabs.potential_profile(atoms, axis=number)
    found = None if capacitance is None else slabs.capacitance(atoms, distance=capacitance)
    quantities = ("potential", "charge") if cube else ()
    written = _write(profile, atoms, prefix, period, quantities)
    Console().print(_table(profile, found), written_line(written, start))


def _opened(atoms: Atoms, axis: int | None) -> Atoms:
    from asesc.slabs import opened

    if axis is None:
        raise InputError("--open needs --axis a, b or c: the direction of the vacuum")
    return opened(atoms, axis)


def _write(
    profile: PotentialProfile,
    atoms: Atoms,
    prefix: str,
    period: float | None,
    quantities: Sequence[str],
) -> list[str]:
    """Table and plot of the profile, and these quantities on a grid; the names of the files."""
    from asesc.slabs import write_cube

    written = [f"{prefix}-profile.csv", f"{prefix}-profile.png"]
    profile.to_csv(written[0])
    profile.plot(written[1], periods=() if period is None else (period,))
    for quantity in quantities:
        written.append(f"{prefix}-{quantity}.cube")
        write_cube(written[-1], atoms, quantity=quantity)
    return written


def _number(axis: str) -> int:
    names = {"a": 0, "b": 1, "c": 2, "x": 0, "y": 1, "z": 2}
    if axis not in names:
        raise InputError(f"--axis {axis!r} is not a cell vector; choose a, b or c")
    return names[axis]


def _table(profile: PotentialProfile, capacitance: Capacitance | None) -> Table:
    from rich.table import Table

    table = Table(title=profile.title)
    for name in ("", "below", "above", "unit"):
        table.add_column(name, justify="left" if name in ("", "unit") else "right")
    span = (float(profile.potential.min()), float(profile.potential.max()))
    table.add_row("potential, lowest and highest", *_numbers(span), "V")
    if profile.period is not None:
        table.caption = "a crystal along this axis: no vacuum"
        return table
    table.add_row("vacuum level", *_numbers(profile.vacuum_levels), "V")
    table.add_row("field in the vacuum", *_numbers(profile.vacuum_fields), "V/Å")
    try:
        table.add_row("work function", *_numbers(profile.work_functions), "eV")
    except PropertyUnavailableError:
        table.caption = "no Fermi level in this model"
    table.add_row("dipole step", "", f"{profile.dipole_step + 0.0:.4f}", "V")
    if capacitance is not None:
        name = f"capacitance of a side, planes at {capacitance.distance:g} Å"
        table.add_row(name, "", f"{capacitance.per_area:.4f}", "µF/cm²")
        plane = "effective plane beyond the nuclei"
        table.add_row(plane, "", f"{capacitance.effective_plane:.4f}", "Å")
    return table


def _numbers(pair: tuple[float, float]) -> tuple[str, str]:
    low, high = (f"{round(value, 4) + 0.0:.4f}" for value in pair)
    return low, high
