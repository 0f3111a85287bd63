"""``asesc defect``: formation energies of a vacancy, substitution or interstitial."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from asesc.cli.numbers import integers
from asesc.cli.run import (
    Device,
    Dtype,
    Extrapolate,
    Kernels,
    ModelName,
    Output,
    Structure,
    output_prefix,
    read_structure,
)
from asesc.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.table import Table

    from asesc.defects import Change, FormationEnergies

_VACANCY = "Missing atom: symbol, or index where sites differ."
_SUBSTITUTE = "Replaced atom and the new one, e.g. Si:Al or 4:Al."
_INTERSTITIAL = "New atom and its place x,y,z in Å, e.g. Li:1.0,0.5,2.1."
_CHEMPOT = "Chemical potential, eV on the model's scale, e.g. O=-4.9; once per element."
_VBM = "Valence band maximum, eV; default: the model's E(0) − E(+1)."
_DIELECTRIC = "Dielectric constant; default: the model's."
_EXTRAPOLATE_TO = "Sizes n × n × n for an extrapolation, e.g. 2,3,4."
Vacancy = Annotated[str | None, typer.Option(help=_VACANCY)]
Substitute = Annotated[str | None, typer.Option(help=_SUBSTITUTE)]
Interstitial = Annotated[str | None, typer.Option(help=_INTERSTITIAL)]
Supercell = Annotated[str, typer.Option(help="Cells along a, b, c.")]
Charges = Annotated[str, typer.Option(help="Charge states, e, separated by commas.")]
Chempots = Annotated[list[str], typer.Option("--chempot", help=_CHEMPOT)]
Vbm = Annotated[float | None, typer.Option(help=_VBM)]
Gap = Annotated[float | None, typer.Option(help="Band gap, eV: range of the plot.")]
Dielectric = Annotated[float | None, typer.Option(help=_DIELECTRIC)]
Relax = Annotated[bool, typer.Option(help="Relax the atoms at every charge.")]
Fmax = Annotated[float, typer.Option(min=0, help="Largest force after relaxation, eV/Å.")]
Correct = Annotated[bool, typer.Option(help="Finite-size correction (eFNV).")]
Sizes = Annotated[str | None, typer.Option("--extrapolate", help=_EXTRAPOLATE_TO)]


def defect(
    structure: Structure,
    model: ModelName,
    chempot: Chempots,
    vacancy: Vacancy = None,
    substitute: Substitute = None,
    interstitial: Interstitial = None,
    supercell: Supercell = "2,2,2",
    charges: Charges = "0",
    vbm: Vbm = None,
    gap: Gap = None,
    dielectric: Dielectric = None,
    relax: Relax = True,
    fmax: Fmax = 0.02,
    correct: Correct = True,
    extrapolate: Sizes = None,
    output: Output = None,
    dtype: Dtype = "float64",
    device: Device = "auto",
    kernels: Kernels = "torch",
    allow_extrapolation: Extrapolate = False,
) -> None:
    """Formation energies of a point defect over the Fermi level.

    Example: `asesc defect quartz --model quartz --vacancy O --supercell 2,2,2 --charges 0
    --chempot O=-407.5 --no-relax` takes one oxygen out of the crystal that ships with the model,
    prints the formation energy and writes `quartz-v_O.csv`, `quartz-v_O.png` and, with the perfect
    cell first and then every charge, `quartz-v_O.traj`. It shows the command, not a number to
    trust: this model was not trained on defects. Charged states (`--charges 0,1,2 --vbm 2.1
    --gap 5.7`) need a model whose card covers them; each adds a plot of its correction.
    """
    start = time.perf_counter()
    states = integers(charges, "--charges")
    cells = integers(supercell, "--supercell", count=3)
    sizes = () if extrapolate is None else integers(extrapolate, "--extrapolate")
    potentials = _chempots(chempot)
    prefix = output_prefix(structure, output)
    crystal = read_structure(structure)
    from rich.console import Console

    from asesc.calculators import SCCalculator
    from asesc.cli.report import written_line
    from asesc.defects import ChargedDefect

    change = _change(crystal, vacancy, substitute, interstitial)
    calc = SCCalculator(
        model, dtype=dtype, device=device, kernels=kernels, allow_extrapolation=allow_extrapolation
    )
    table = ChargedDefect(crystal, change, calc, cells).formation_energies(
        states,
        chempots=potentials,
        vbm=vbm,
        band_gap=gap,
        dielectric=dielectric,
        correction="kumagai" if correct else None,
        fmax=fmax if relax else None,
        extrapolate=sizes,
    )
    written = _write(table, f"{prefix}-{change.name}")
    Console().print(_table(table), written_line(written, start))


def _change(crystal: Atoms, missing: str | None, replaced: str | None, added: str | None) -> Change:
    from asesc import defects

    if sum(option is not None for option in (missing, replaced, added)) != 1:
        raise InputError("give one of --vacancy, --substitute and --interstitial")
    if missing is not None:
        return defects.vacancy(crystal, _species(missing))
    if replaced is not None:
        old, colon, new = replaced.partition(":")
        if not colon:
            raise InputError(f"--substitute {replaced!r} is not OLD:NEW, e.g. Si:Al")
        return defects.substitution(crystal, _species(old), new)
    symbol, _, place = added.partition(":")
    try:
        position = [float(part) for part in place.split(",")]
    except ValueError as error:
        raise InputError(
            f"--interstitial {added!r} is not SYMBOL:x,y,z in Å, e.g. Li:1.0,0.5,2.1"
        ) from error
    return defects.interstitial(crystal, symbol, position)


def _species(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _chempots(texts: list[str]) -> dict[str, float]:
    potentials: dict[str, float] = {}
    for symbol, energy in map(_assignment, texts):
        if symbol in potentials:
            raise InputError(
                f"--chempot gives {symbol} twice, {potentials[symbol]} and {energy} eV"
            )
        potentials[symbol] = energy
    return potentials


def _assignment(text: str) -> tuple[str, float]:
    """Element and energy.

    >>> _assignment("O=-4.9")
    ('O', -4.9)
    """
    symbol, _, number = text.partition("=")
    try:
        return symbol, float(number)
    except ValueError as error:
        raise InputError(f"--chempot {text!r} is not ELEMENT=eV, e.g. O=-4.9") from error


def _write(table: FormationEnergies, prefix: str) -> list[str]:
    from ase.io import write

    written = [f"{prefix}.csv", f"{prefix}.png", f"{prefix}.traj"]
    table.to_csv(written[0])
    table.plot(written[1])
    write(written[2], [table.perfect.atoms, *(state.atoms for state in table.states)])
    for state in table.states:
        if state.charge and state.correction is not None:
            written.append(f"{prefix}_{state.charge:+d}-correction.png")
            state.correction.plot(written[-1])
    for found in table.extrapolations:
        written.append(f"{prefix}_{found.charge:+.0f}-extrapolation.png")
        found.plot(written[-1])
    return written


def _table(table: FormationEnergies) -> Table:
    from rich.table import Table

    rows = table.rows()
    shown = Table(title=f"{table.change.name} in {table.title}, {len(table.cell.defect)} atoms")
    for name in rows[0]:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*(_text(value) for value in row.values()))
    levels = ", ".join(f"{q:+d}/{p:+d} {e:.3f} eV" for (q, p), e in table.transition_levels.items())
    if any(table.charges):
        reservoir = f"with the Fermi level at the valence band, {table.vbm:.3f} eV"
        shown.caption = f"{reservoir}; the stable charge changes at {levels or 'no level'}"
    return shown


def _text(value: float) -> str:
    if isinstance(value, int):
        return f"{value:+d}" if value else "0"
    # Adding zero turns −0.0 into 0.0.
    return f"{round(value, 4) + 0.0:.4f}"
