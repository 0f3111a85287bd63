"""``asesc phonons``: bands with LO-TO splitting, dielectric constants, elastic tensors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from asesc.cli.numbers import direction, integers
from asesc.cli.run import (
    Device,
    Dtype,
    Kernels,
    ModelName,
    Output,
    Structure,
    output_prefix,
    read_structure,
)
from asesc.errors import IllPosedError

if TYPE_CHECKING:
    from ase import Atoms
    from phonopy import Phonopy
    from rich.table import Table

    from asesc.phonons import DielectricResponse, ElasticResponse

_DIRECTIONS = "Cartesian directions of LO-TO splitting at Γ, separated by semicolons."
Supercell = Annotated[str, typer.Option(help="Cells along a, b, c.")]
Nac = Annotated[bool, typer.Option(help="LO-TO splitting from the model's Born charges and ε∞.")]
Relax = Annotated[bool, typer.Option(help="Relax positions and cell first, keeping symmetry.")]
Elastic = Annotated[bool, typer.Option("--elastic", help="Elastic and piezoelectric tensors too.")]
Directions = Annotated[str, typer.Option(help=_DIRECTIONS)]
Displacement = Annotated[float, typer.Option(min=1e-4, help="Of the atoms, Å.")]


def phonons(
    structure: Structure,
    model: ModelName,
    supercell: Supercell = "3,3,3",
    nac: Nac = True,
    relax: Relax = True,
    elastic: Elastic = False,
    directions: Directions = "1,0,0;0,0,1",
    displacement: Displacement = 0.01,
    output: Output = None,
    dtype: Dtype = "float64",
    device: Device = "auto",
    kernels: Kernels = "torch",
) -> None:
    """Phonons of a crystal by finite displacements, and what follows from them.

    Example: `asesc phonons quartz --model quartz --supercell 3,3,3` relaxes the crystal that ships
    with the model, displaces its atoms in a supercell, prints ε∞, ε0 and the LO-TO splittings with
    the violation of the acoustic sum rule, and writes `quartz-phonons.yaml` (for phonopy),
    `quartz-bands.png`, `quartz-thermal.png` and `quartz-reflectivity.png`.
    """
    start = time.perf_counter()
    cells = integers(supercell, "--supercell", count=3)
    along = [direction(text, "--directions") for text in directions.split(";")]
    prefix = output_prefix(structure, output)
    atoms = read_structure(structure)
    from rich.console import Console

    import asesc.phonons as workflow
    from asesc.calculators import SCCalculator
    from asesc.cli.report import written_line

    console = Console()
    atoms.calc = SCCalculator(model, dtype=dtype, device=device, kernels=kernels)
    if relax:
        atoms = workflow.relaxed(atoms, cell=bool(atoms.pbc.all()))
    ph = workflow.phonons(atoms, cells, nac=nac, displacement=displacement)
    written = _write(ph, prefix)
    if nac:
        response = workflow.dielectric_response(ph)
        written.append(f"{prefix}-reflectivity.png")
        response.plot(written[-1])
        console.print(_dielectric_table(response), _splitting_table(response, along))
    if elastic:
        console.print(_elastic_table(workflow.elastic_response(atoms, piezoelectric=nac), atoms))
    console.print(_lowest(ph))
    console.print(written_line(written, start))


def _write(ph: Phonopy, prefix: str) -> list[str]:
    from asesc.phonons import plot_bands_and_dos, thermal_properties

    written = [f"{prefix}-phonons.yaml", f"{prefix}-bands.png", f"{prefix}-thermal.png"]
    ph.save(written[0], settings={"force_constants": True})
    plot_bands_and_dos(ph, written[1])
    thermal_properties(ph).plot(written[2])
    return written


def _dielectric_table(response: DielectricResponse) -> Table:
    from rich.table import Table

    table = Table(title=response.title)
    for name in ("", "xx", "yy", "zz", "yz", "xz", "xy"):
        table.add_column(name, justify="right")
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    rows = {"ε∞ (electrons)": response.high_frequency}
    try:
        rows["ε0 (electrons + ions)"] = response.static
    except IllPosedError as error:
        table.caption = str(error)
    for name, tensor in rows.items():
        table.add_row(name, *(_number(tensor[pair], 4) for pair in pairs))
    return table


def _splitting_table(response: DielectricResponse, directions: list[list[float]]) -> Table:
    from rich.table import Table

    table = Table(title="polar modes at Γ, cm⁻¹")
    for name in ("q along", "TO", "LO", "LO − TO"):
        table.add_column(name, justify="right")
    for unit in directions:
        for pair in response.splittings(unit):
            table.add_row(
                ", ".join(f"{x:g}" for x in unit),
                f"{pair.transverse:.1f}",
                f"{pair.longitudinal:.1f}",
                f"{pair.longitudinal - pair.transverse:.1f}",
            )
        table.add_section()
    return table


def _elastic_table(response: ElasticResponse, atoms: Atoms) -> Table:
    from rich.table import Table

    table = Table(title=f"{atoms.symbols.formula.reduce()[0]}: relaxed ions, Voigt order")
    for name in ("", "xx", "yy", "zz", "yz", "xz", "xy"):
        table.add_column(name, justify="right")
    for name, row in zip(("xx", "yy", "zz", "yz", "xz", "xy"), response.elastic_gpa, strict=True):
        table.add_row(f"C {name} (GPa)", *(_number(value, 2) for value in row))
    if response.piezoelectric is not None:
        table.add_section()
        for name, row in zip("xyz", response.piezoelectric_si, strict=True):
            table.add_row(f"e {name} (C/m²)", *(_number(value, 4) for value in row))
    return table


def _number(value: float, digits: int) -> str:
    """Adding zero turns −0.0 into 0.0."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _lowest(ph: Phonopy) -> str:
    """One line on stability, from the points sampled for the density of states."""
    from asesc.workflows.modes import NOISE, PER_THZ

    frequencies = PER_THZ * ph.mesh.frequencies
    mesh = " × ".join(map(str, ph.mesh.mesh_numbers))
    lowest = float(frequencies.min())
    if lowest > -NOISE:
        return f"no imaginary modes on a {mesh} mesh"
    where = ph.mesh.qpoints[frequencies.min(axis=1).argmin()]
    return (
        f"lowest mode {-lowest:.0f}i cm⁻¹ on a {mesh} mesh, at q = "
        f"({', '.join(f'{x:.2f}' for x in where)}); between the wave vectors of the supercell, for "
        "which a warning would have been given, that is interpolation: enlarge --supercell"
    )
