"""Tables for the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from asesc.pretrained import ModelCard
    from asesc.training import LabelError

_DEBYE = units.Debye


def written_line(paths: Sequence[str], start: float) -> str:
    """Last line of a command that began at a ``time.perf_counter()``."""
    return f"wrote {', '.join(paths)} in {time.perf_counter() - start:.1f} s"


def result_table(atoms: Atoms, model: str) -> Table:
    """Everything ``asesc run`` computed for the last frame, with units."""
    calc = atoms.calc
    energy = atoms.get_potential_energy()
    forces = atoms.get_forces()
    table = Table(title=f"{atoms.get_chemical_formula()}, model {model}", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    extras = calc.extras
    rows: list[tuple[str, str, str]] = [
        ("energy", f"{energy:.6f}", "eV"),
        ("energy per atom", f"{energy / len(atoms):.6f}", "eV"),
        ("largest force", f"{np.linalg.norm(forces, axis=1).max():.6f}", "eV/Å"),
    ]
    results = calc.results
    if "stress" in results:
        pressure = -results["stress"][:3].mean() / units.GPa
        rows.append(("pressure", f"{pressure:.4f}", "GPa"))
    # Adding zero turns −0.0 into 0.0.
    total = round(results["charges"].sum(), 8) + 0.0
    rows.append(("total charge", f"{total:+.8f}", "e"))
    if "fermi_level" in results:
        rows.append(("Fermi level", f"{results['fermi_level']:.6f}", "eV"))
    rows.append(("electric field", _vector(extras["electric_field"]), "V/Å"))
    if "dipole" in results:
        rows.append(("dipole", _vector(results["dipole"]), "e Å"))
        rows.append(("|dipole|", f"{np.linalg.norm(results['dipole']) / _DEBYE:.4f}", "Debye"))
    if "polarization" in results:
        rows.append(("polarization", _vector(100 * results["polarization"] * _E_PER_A2), "µC/cm²"))
    for symbol in sorted(set(atoms.symbols)):
        charges = results["charges"][np.array(atoms.symbols) == symbol]
        spread = f"{charges.mean():+.4f} ± {charges.std():.4f}"
        rows.append((f"density charge of {symbol}", spread, "e"))
    rows.append(("boundary", extras["boundary"], f"pbc {''.join('FT'[int(p)] for p in atoms.pbc)}"))
    rows.append(("density", str(calc.scf), ""))
    for row in rows:
        table.add_row(*row)
    table.caption = _DENSITY_CHARGES
    return table


_DENSITY_CHARGES = (
    "Density charges and atomic dipoles make the long-range potential, and only together mean "
    "something; what an atom carries when it moves is its Born charge."
)


#: e/Å² in C/m².
_E_PER_A2 = 1 / (units.C / units.m**2)


def _vector(values: np.ndarray) -> str:
    return "  ".join(f"{value + 0.0:.5f}" for value in np.round(values, 5))


def model_list(cards: Mapping[str, ModelCard]) -> Table:
    """One line per model, by the name that opens it: that of its folder, not of its card."""
    table = Table(title="models")
    for column in ("name", "elements", "charge", "field ≤ V/Å", "boundary", "theory", "licence"):
        table.add_column(column)
    for name, card in cards.items():
        table.add_row(
            name,
            " ".join(card.elements),
            card.charges,
            f"{card.field_range:.3g}",
            ", ".join(card.boundaries),
            card.level_of_theory,
            card.licence,
        )
    return table


def model_info(card: ModelCard) -> Table:
    """A card, readable."""
    table = Table(title=f"model {card.name}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    rows = {
        "family": card.family,
        "elements": " ".join(card.elements),
        "total charge": f"{card.charges} e",
        "applied field": f"up to {card.field_range:.3g} V/Å",
        "boundaries": ", ".join(card.boundaries),
        "level of theory": card.level_of_theory,
        "training data": card.training_data,
        "limits": card.limits,
        "licence": card.licence,
        "citation": card.citation,
        "sha256": card.sha256,
    }
    for label, error in card.errors.items():
        rows[f"validation RMSE, {label.replace('_', ' ')}"] = f"{error.value:.4g} {error.unit}"
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def error_table(errors: Mapping[str, LabelError], title: str) -> Table:
    """Errors per label, as ``asesc evaluate`` prints them."""
    table = Table(title=title)
    for name in ("label", "RMSE", "MAE", "unit", "relative RMSE", "numbers"):
        table.add_column(name, justify="left" if name in ("label", "unit") else "right")
    for label, error in errors.items():
        table.add_row(
            label.replace("_", " "),
            f"{error.rmse:.5f}",
            f"{error.mae:.5f}",
            error.unit,
            error.percent,
            str(error.reference.size),
        )
    return table
