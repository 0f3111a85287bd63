"""Defects as objects of pymatgen and doped, with charges, potentials and dielectric tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from asesc.errors import PropertyUnavailableError, SetupError
from asesc.workflows.conversions import to_pymatgen

if TYPE_CHECKING:
    from asesc.workflows.defect_states import DefectState
    from asesc.workflows.formation import FormationEnergies


def computed_entries(table: FormationEnergies) -> list[Any]:
    """A ``ComputedStructureEntry`` per charge state, and last the perfect supercell.

    Structures have their charge, ``entry.correction`` is the finite-size correction, and
    ``entry.data`` holds charge, position of the defect and site potentials.
    """
    entries = [_entry(table, s, correction=s.corrected_energy - s.energy) for s in table.states]
    return [*entries, _perfect(table)]


def doped_entries(table: FormationEnergies) -> list[Any]:
    """A ``doped.core.DefectEntry`` per charge state.

    ``calculation_metadata`` holds what doped needs for its own Kumagai correction and formation
    energies: site potentials with and without the defect, dielectric tensor, VBM and gap.

    Raises
    ------
    SetupError
        If doped is not installed.
    PropertyUnavailableError
        If a charged state has no site potentials, because none of its corrections was wanted.
    """
    try:
        from doped.analysis import defect_from_structures
        from doped.core import DefectEntry
    except ImportError as error:
        raise SetupError(
            f"doped is needed for its objects and cannot be imported ({error}): pip install doped. "
            "to_pymatgen() needs nothing further"
        ) from error
    if table.perfect.site_potentials is None and any(table.charges):
        raise PropertyUnavailableError(
            "doped's corrections need site potentials and a dielectric tensor, which are computed "
            'with correction="kumagai"'
        )
    bulk = _perfect(table)
    unrelaxed = to_pymatgen(table.cell.defect)
    defect = defect_from_structures(bulk.structure, unrelaxed)
    return [
        DefectEntry(
            defect=defect,
            charge_state=state.charge,
            # doped adds its corrections to an energy that has none.
            sc_entry=_entry(table, state, correction=0.0),
            corrections={"kumagai_charge_correction": state.corrected_energy - state.energy},
            bulk_entry=bulk,
            sc_defect_frac_coords=table.cell.bulk.cell.scaled_positions(state.position),
            name=f"{table.change.name}_{state.charge:+d}".replace("_+0", "_0"),
            calculation_metadata=_metadata(table, state),
        )
        for state in table.states
    ]


def _entry(table: FormationEnergies, state: DefectState, *, correction: float) -> Any:
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    return ComputedStructureEntry(
        to_pymatgen(state.atoms),
        state.energy,
        correction=correction,
        data={
            "charge": state.charge,
            "defect": table.change.name,
            "defect_position": state.position.tolist(),
            "site_potentials": _listed(state.site_potentials),
        },
        entry_id=f"{table.change.name}_{state.charge:+d}",
    )


def _perfect(table: FormationEnergies) -> Any:
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    perfect = table.perfect
    return ComputedStructureEntry(
        to_pymatgen(perfect.atoms),
        perfect.energy,
        data={"charge": 0, "site_potentials": _listed(perfect.site_potentials)},
        entry_id="perfect",
    )


def _metadata(table: FormationEnergies, state: DefectState) -> dict[str, Any]:
    """Under the names that doped reads; its potentials too are those of a positive charge."""
    reservoir = {"vbm": table.vbm, "band_gap": table.band_gap}
    if table.perfect.site_potentials is None:
        return reservoir
    return {
        "bulk_site_potentials": table.perfect.site_potentials,
        "defect_site_potentials": state.site_potentials,
        "dielectric": table.dielectric,
        **reservoir,
    }


def _listed(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.tolist()
