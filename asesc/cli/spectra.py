"""``asesc spectra``: infrared and Raman, harmonic or from molecular dynamics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from asesc.cli.run import (
    Device,
    Dtype,
    Kernels,
    ModelName,
    Output,
    Seed,
    Structure,
    output_prefix,
    read_structure,
    require_motion,
)
from asesc.errors import AsescError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.table import Table

    from asesc.spectra import LineSpectrum, MomentRecorder, Spectrum

_MD = "Molecular dynamics of that many ps instead of harmonic modes."
Relax = Annotated[bool, typer.Option(help="Relax first, leaving saddle points.")]
Raman = Annotated[bool, typer.Option("--raman", help="Raman too, not only infrared.")]
Md = Annotated[float | None, typer.Option(min=1e-3, help=_MD)]
Width = Annotated[
    float, typer.Option(min=1e-3, help="Full width of lines, or resolution of --md, cm⁻¹.")
]
Temperature = Annotated[float, typer.Option(min=1e-3, help="Of --md, K.")]
Timestep = Annotated[float, typer.Option(min=1e-3, help="Of --md, fs.")]


def spectra(
    structure: Structure,
    model: ModelName,
    relax: Relax = True,
    raman: Raman = False,
    md: Md = None,
    width: Width = 10.0,
    temperature: Temperature = 300.0,
    timestep: Timestep = 0.5,
    seed: Seed = 0,
    output: Output = None,
    dtype: Dtype = "float64",
    device: Device = "auto",
    kernels: Kernels = "torch",
) -> None:
    """Infrared (and Raman) spectrum of a molecule or crystal.

    Example: `asesc spectra nma --model nma --raman` relaxes the molecule that ships with the model,
    prints its modes with infrared absorption and Raman activity, and writes `nma-ir.csv`,
    `nma-ir.png`, `nma-raman.csv` and `nma-raman.png`. With `--md 5` the spectrum comes from 5 ps
    of molecular dynamics.
    """
    start = time.perf_counter()
    prefix = output_prefix(structure, output)
    atoms = read_structure(structure)
    from rich.console import Console

    import asesc.spectra as workflow
    from asesc.calculators import SCCalculator
    from asesc.cli.report import written_line

    console = Console()
    atoms.calc = SCCalculator(model, dtype=dtype, device=device, kernels=kernels)
    if relax:
        atoms = workflow.minimum(atoms) if md is None else workflow.relaxed(atoms)
    if md is None:
        kinds = (workflow.infrared, workflow.raman) if raman else (workflow.infrared,)
        modes = workflow.vibrations(atoms, progress=True)
        found = [kind(atoms, modes=modes, progress=True) for kind in kinds]
        console.print(_mode_table(found))
    else:
        found = _dynamics(atoms, raman, md, timestep, temperature, width, seed, prefix)
    written = []
    for spectrum, name in zip(found, ("ir", "raman"), strict=False):
        written += [f"{prefix}-{name}.csv", f"{prefix}-{name}.png"]
        spectrum.to_csv(written[-2])
        spectrum.plot(written[-1], **({"width": width} if md is None else {}))
    console.print(written_line(written, start))


def _mode_table(found: list[LineSpectrum]) -> Table:
    from rich.table import Table

    table = Table(title=found[0].title)
    table.add_column("mode", justify="right")
    table.add_column("wave number, cm⁻¹", justify="right")
    for lines in found:
        table.add_column(f"{lines.quantity}, {lines.unit}", justify="right")
    for mode, wavenumber in enumerate(found[0].wavenumbers):
        shown = f"{wavenumber:.1f}" if wavenumber >= 0 else f"{-wavenumber:.1f}i"
        table.add_row(str(mode + 1), shown, *(f"{lines.intensities[mode]:.2f}" for lines in found))
    return table


def _dynamics(
    atoms: Atoms,
    raman: bool,
    picoseconds: float,
    timestep: float,
    temperature: float,
    resolution: float,
    seed: int,
    prefix: str,
) -> list[Spectrum]:
    import asesc.spectra as workflow
    from asesc.workflows.dynamics import require_length
    from asesc.workflows.evaluations import described

    steps = int(1e3 * picoseconds / timestep)
    require_length(steps, timestep, resolution)
    require_motion(atoms)
    recorder = workflow.MomentRecorder(atoms, raman=raman)
    try:
        reached = _record(atoms, recorder, steps, timestep, temperature, seed)
    except (KeyboardInterrupt, AsescError):
        _keep(recorder, f"{prefix}-dipoles.csv")
        raise
    title = f"{described(atoms)} · {reached:.0f} K, {picoseconds:g} ps of molecular dynamics"
    options = {"temperature": reached, "resolution": resolution, "title": title}
    found = [workflow.infrared_from_moments(recorder.moments, timestep, **options)]
    if raman:
        alphas = recorder.polarizabilities
        found.append(workflow.raman_from_polarizabilities(alphas, timestep, **options))
    return [workflow.without_verlet_shift(spectrum, timestep) for spectrum in found]


def _keep(recorder: MomentRecorder, path: str) -> None:
    """Write the dipoles of a run that ends early, if it got beyond the thermostat."""
    if len(recorder.moments):
        recorder.to_csv(path)
        advice = f"stopped; the dipoles so far, one per time step, are in {path}"
        typer.secho(advice, fg="yellow", err=True)


def _record(
    atoms: Atoms,
    recorder: MomentRecorder,
    steps: int,
    timestep: float,
    temperature: float,
    seed: int,
) -> float:
    """A fifth of the time under a thermostat, then at constant energy, which is recorded.

    Returns the temperature of that part, K.
    """
    import numpy as np
    from ase import units
    from ase.md.bussi import Bussi
    from ase.md.velocitydistribution import Stationary, thermalize_momenta
    from ase.md.verlet import VelocityVerlet
    from rich.progress import Progress

    random = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature, rng=random)
    Stationary(atoms)
    step, kinetic = timestep * units.fs, []
    with Progress(transient=True) as progress:
        task = progress.add_task("molecular dynamics", total=steps + steps // 5)
        thermostat = Bussi(atoms, step, temperature_K=temperature, taut=50 * units.fs, rng=random)
        thermostat.attach(lambda: progress.advance(task))
        thermostat.run(steps // 5)
        dynamics = VelocityVerlet(atoms, step)
        dynamics.attach(recorder)
        dynamics.attach(lambda: kinetic.append(atoms.get_kinetic_energy()))
        dynamics.attach(lambda: progress.advance(task))
        dynamics.run(steps)
    # The centre of mass does not move.
    return float(2 * np.mean(kinetic) / (units.kB * (3 * len(atoms) - 3)))
