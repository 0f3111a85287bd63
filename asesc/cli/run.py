"""``asesc run``: one structure, one model, one answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asesc.errors import AsescError, InputError

if TYPE_CHECKING:
    from ase import Atoms

    from asesc.cli.record import Record


class Ensemble(StrEnum):
    """Molecular dynamics that ``--md`` offers."""

    nve = "nve"
    nvt = "nvt"


_STRUCTURE = "File that ASE reads (its last frame), or a model's name or folder for its example."
Structure = Annotated[str, typer.Argument(help=_STRUCTURE)]
ModelName = Annotated[str, typer.Option(help="Pretrained model or folder; see `asesc models`.")]
Charge = Annotated[float | None, typer.Option(help="Total charge, e.")]
Spin = Annotated[int | None, typer.Option(help="Multiplicity 2S + 1, for models with spin.")]
_FIELD = "Electric field x,y,z in V/Å; the force on +q is +qE."
Field = Annotated[str | None, typer.Option(help=_FIELD)]
_LEVEL = "Hold the Fermi level −∂E/∂Q at this energy, eV, instead of the charge."
FermiLevel = Annotated[float | None, typer.Option(help=_LEVEL)]
Relax = Annotated[bool, typer.Option("--relax", help="Relax the positions.")]
Cell = Annotated[bool, typer.Option("--cell", help="With --relax: relax the cell too.")]
Fmax = Annotated[float, typer.Option(min=0, help="Largest force after --relax, eV/Å.")]
Md = Annotated[Ensemble | None, typer.Option(help="Molecular dynamics.")]
Steps = Annotated[int, typer.Option(min=1, help="Most steps of --relax or --md.")]
Temperature = Annotated[float, typer.Option(min=0, help="Of --md, K.")]
Timestep = Annotated[float, typer.Option(min=1e-3, help="Of --md, fs.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the initial velocities.")]
Output = Annotated[str | None, typer.Option(help="Prefix of the files written, or folder/.")]
Dtype = Annotated[str, typer.Option(help="float64 or float32.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Kernels = Annotated[
    str,
    typer.Option(help="Of the backbone: torch, compiled (CPU, long runs) or cuequivariance (GPU)."),
]
Boundary = Annotated[str, typer.Option(help="auto (from pbc), open, slab, electrodes, periodic.")]
_EXTRAPOLATE = "Go beyond the scope of the model's card."
Extrapolate = Annotated[bool, typer.Option("--allow-extrapolation", help=_EXTRAPOLATE)]


def run(
    structure: Structure,
    model: ModelName,
    charge: Charge = None,
    spin: Spin = None,
    field: Field = None,
    fermi_level: FermiLevel = None,
    relax: Relax = False,
    cell: Cell = False,
    fmax: Fmax = 0.01,
    md: Md = None,
    steps: Steps = 200,
    temperature: Temperature = 300.0,
    timestep: Timestep = 1.0,
    seed: Seed = 0,
    output: Output = None,
    dtype: Dtype = "float64",
    device: Device = "auto",
    kernels: Kernels = "torch",
    boundary: Boundary = "auto",
    allow_extrapolation: Extrapolate = False,
) -> None:
    """Evaluate one structure, relax it, or run molecular dynamics.

    Example: `asesc run quartz --model quartz --field 0,0,0.05 --relax` takes the structure that
    ships with the model, puts it into a field of 0.05 V/Å along z and relaxes the atoms. It prints
    a table and writes `quartz.traj` and `quartz.png`.
    """
    start = time.perf_counter()
    _require_one_task(relax, cell, md)
    if md is Ensemble.nvt and temperature == 0:
        raise InputError("--md nvt holds a temperature above 0 K; raise --temperature, or use nve")
    atoms = read_structure(structure)
    if md:
        require_motion(atoms)
    options = {"dtype": dtype, "device": device, "kernels": kernels, "boundary": boundary}
    options |= {"allow_extrapolation": allow_extrapolation, "fermi_level": fermi_level}
    options["spin"] = spin
    attach_calculator(atoms, model, charge, field, options)
    if cell:
        # Refused here, before any file of an earlier run is replaced.
        atoms.get_stress()
    with _record(atoms, model, *output_paths(structure, output), start) as record:
        if relax:
            _relax(atoms, record, fmax=fmax, steps=steps, with_cell=cell)
        elif md:
            _dynamics(atoms, record, md, steps, temperature, timestep, seed)
        else:
            record()


def _require_one_task(relax: bool, cell: bool, md: Ensemble | None) -> None:
    if relax and md:
        raise InputError("--relax and --md were both given; run one after the other")
    if cell and not relax:
        raise InputError("--cell relaxes the cell together with the positions; add --relax")


def require_motion(atoms: Atoms) -> None:
    """Refuse molecular dynamics without atoms that move against each other.

    Raises
    ------
    InputError
    """
    if len(atoms) == 1 or atoms.get_number_of_degrees_of_freedom() <= 0:
        why = "there is one" if len(atoms) == 1 else "the file fixes all"
        raise InputError(f"molecular dynamics needs atoms that move against each other; {why}")


def attach_calculator(
    atoms: Atoms, model: str, charge: float | None, field: str | None, options: dict[str, Any]
) -> None:
    """Options win over what the file says; what is not given is read from ``atoms.info``."""
    from asesc.calculators import SCCalculator, inputs

    replaced: list[str] = []
    if charge is not None:
        options["charge"] = charge
    if charge is not None or options.get("fermi_level") is not None:
        replaced += [*inputs.CHARGE_KEYS, inputs.FERMI_KEY]
    if options.get("spin") is not None:
        replaced += inputs.SPIN_KEYS
    if field is not None:
        options["electric_field"] = parse_vector(field)
        replaced += [inputs.FIELD_KEY, inputs.OPPOSITE_FIELD_KEY]
    for key in replaced:
        atoms.info.pop(key, None)
    atoms.calc = SCCalculator(model, **options)


@contextmanager
def _record(
    atoms: Atoms, model: str, trajectory: Path, plot: Path, start: float
) -> Iterator[Record]:
    """Follow a calculation; in the end draw it, print the table and say what was written."""
    from rich.console import Console

    from asesc.cli.record import Record
    from asesc.cli.report import result_table, written_line

    # Before any file of an earlier run is replaced.
    atoms.get_forces()
    record = Record(atoms, trajectory)
    try:
        yield record
    except (KeyboardInterrupt, AsescError):
        typer.secho(f"stopped; the steps so far are in {trajectory}", fg="yellow", err=True)
        raise
    finally:
        record.close()
    record.plot(plot, title=_title(atoms, model))
    console = Console()
    console.print(result_table(atoms, model))
    console.print(written_line([str(trajectory), str(plot)], start))


def read_structure(source: str) -> Atoms:
    """A file that ASE reads (its last frame), or the example that ships with a model.

    Raises
    ------
    InputError
        If it is neither, or ASE cannot read the file.
    """
    from asesc.files import read_frames
    from asesc.pretrained import find_model, list_models

    path = Path(source)
    if not path.is_file() and (source in list_models() or (path / "card.json").is_file()):
        path = find_model(source) / "example.xyz"
        if not path.is_file():
            raise InputError(
                f"model {source!r} has no example structure; put one into its folder, {path}"
            )
    if not path.is_file():
        raise InputError(
            f"no structure file {source!r}, and no model of that name with an example structure "
            f"(models: {', '.join(list_models()) or 'none found'})"
        )
    (atoms,) = read_frames(path, "-1:")
    atoms.calc = None
    return atoms


def output_paths(structure: str, prefix: str | None) -> tuple[Path, Path]:
    """Trajectory and plot: by default named like the structure, beside neither it nor its model.

    Raises
    ------
    InputError
        If the folder does not exist, or no file can be made there.
    """
    name = (prefix or "").removesuffix(".traj").removesuffix(".png")
    if os.path.basename(name) in ("", os.curdir, os.pardir):
        name = os.path.join(name, _stem(structure))
    if Path(f"{name}.traj").resolve() == Path(structure).resolve():
        name += "-run"
    folder = Path(name).parent
    if not folder.is_dir():
        raise InputError(f"--output {name!r}: there is no folder {str(folder)!r}")
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"the folder {str(folder.resolve())!r} is read-only, and files are to be written "
            "there; give a prefix in another one with --output"
        )
    return Path(f"{name}.traj"), Path(f"{name}.png")


def _stem(structure: str) -> str:
    """Name of a file without its format and compression, but with other points.

    >>> [_stem(name) for name in ("a/water_0.96.xyz", "b.extxyz.gz", "quartz", "models/nma/")]
    ['water_0.96', 'b', 'quartz', 'nma']
    """
    path = Path(os.path.abspath(structure))
    return path.with_suffix("").stem if path.suffix in (".gz", ".bz2", ".xz") else path.stem


def output_prefix(structure: str, prefix: str | None) -> str:
    """What the names of all files of a command begin with; see :func:`output_paths`."""
    return str(output_paths(structure, prefix)[0].with_suffix(""))


def parse_vector(text: str) -> list[float]:
    """Three comma-separated numbers.

    >>> parse_vector("0,0,0.05")
    [0.0, 0.0, 0.05]
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3:
        raise InputError(f"field {text!r} is not three numbers x,y,z in V/Å, e.g. 0,0,0.05")
    return numbers


def _title(atoms: Atoms, model: str) -> str:
    extras = atoms.calc.extras
    field = ", ".join(f"{component:g}" for component in extras["electric_field"])
    return (
        f"{atoms.get_chemical_formula()} · model {model} · charge {extras['charge']:g} e · "
        f"field ({field}) V/Å"
    )


def _relax(atoms: Atoms, record: Record, *, fmax: float, steps: int, with_cell: bool) -> None:
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    target = FrechetCellFilter(atoms) if with_cell else atoms
    optimiser = BFGS(target, logfile=None)
    optimiser.attach(record)
    record.fmax = fmax
    with record.progress("relaxing", steps):
        converged = optimiser.run(fmax=fmax, steps=steps)
    if not converged:
        typer.secho(
            f"not relaxed to {fmax} eV/Å within {steps} steps; raise --steps", fg="yellow", err=True
        )


def _dynamics(
    atoms: Atoms,
    record: Record,
    ensemble: Ensemble,
    steps: int,
    temperature: float,
    timestep: float,
    seed: int,
) -> None:
    import numpy as np
    from ase import units
    from ase.md.bussi import Bussi
    from ase.md.velocitydistribution import Stationary, thermalize_momenta
    from ase.md.verlet import VelocityVerlet

    random = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature, rng=random)
    Stationary(atoms)
    dt = timestep * units.fs
    if ensemble is Ensemble.nve:
        dynamics = VelocityVerlet(atoms, dt)
    else:
        dynamics = Bussi(atoms, dt, temperature_K=temperature, taut=100 * units.fs, rng=random)
    dynamics.attach(record)
    record.timestep = timestep
    with record.progress("molecular dynamics", steps):
        dynamics.run(steps)
