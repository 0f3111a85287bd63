"""Frames that lose nothing when they are written: charge, field, dipole and where they came from.

ASE's files keep ``atoms.info`` and the results under ASE's own names, or only one of the two, and
nothing of what was set on a calculator. :func:`recorded` puts all of it where a file keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.core import Database
from ase.db.row import AtomsRow
from ase.io.jsonio import decode, encode

from asesc.errors import InputError

#: Entry of ``atoms.info`` with the outputs that ASE has no name for.
OUTPUTS = "electrostatics"

_FROM_EXTRAS = ("charge", "dipole_origin", "boundary")
_FROM_RESULTS = ("fermi_level", "dipole", "polarization")
_FROM_CALCULATOR = ("model", "sha256")


def recorded(atoms: Atoms) -> Atoms:
    """A copy that carries its results and everything they depend on.

    The inputs ``charge`` (or ``fermi_level``, if that is what was fixed), ``electric_field`` and
    ``spin`` go into ``info`` also if they were set on the calculator, so that the copy, computed
    again, gives the same numbers; outputs without a name in ASE go into ``info["electrostatics"]``.
    Trajectories and extended XYZ files then keep all of it; databases and JSON need
    :func:`write_row` and :func:`to_json`, pymatgen and phonopy
    :mod:`asesc.workflows.conversions`.

    Raises
    ------
    InputError
        If nothing has been computed for this structure.
    """
    copy = atoms.copy()
    calc = atoms.calc
    if calc is None or calc.check_state(atoms) or not calc.results:
        raise InputError(
            f"there are no results for {atoms.get_chemical_formula()} as it is now; compute them "
            "first, e.g. atoms.get_potential_energy()"
        )
    results = {k: v for k, v in calc.results.items() if k in all_properties and v is not None}
    copy.calc = SinglePointCalculator(copy, **results)
    copy.calc.name = calc.name
    if hasattr(calc, "todict"):
        copy.calc.parameters.update(calc.todict())
    extras = getattr(calc, "extras", None)
    if extras:
        _remember_inputs(copy, extras, calc.parameters)
        copy.info[OUTPUTS] = _outputs(calc, extras)
    return copy


def write_row(database: Database, atoms: Atoms, **key_value_pairs: Any) -> int:
    """Write a row that keeps ``info``, which ASE's databases drop; its id.

    Charge and field can be searched for as ``total_charge`` and ``field``, V/Å.
    """
    frame = recorded(atoms)
    pairs = dict(key_value_pairs)
    if OUTPUTS in frame.info:
        pairs.setdefault("total_charge", float(frame.info[OUTPUTS]["charge"]))
        field = frame.info.get("electric_field", np.zeros(3))
        pairs.setdefault("field", float(np.linalg.norm(field)))
    return database.write(frame, key_value_pairs=pairs, data={"info": _plain(frame.info)})


def read_row(row: AtomsRow) -> Atoms:
    """The frame of :func:`write_row`, with its ``info``."""
    atoms = row.toatoms()
    atoms.info.update(_arrays(row.data.get("info", {})))
    return atoms


def to_json(atoms: Atoms) -> str:
    """One frame with ``info`` and, if it has a calculator, its results as JSON."""
    frame = atoms if atoms.calc is None else recorded(atoms)
    parts = frame.todict()
    parts["info"] = _plain(frame.info)
    return encode({"atoms": parts, "results": frame.calc.results if frame.calc else {}})


def from_json(text: str) -> Atoms:
    """The frame of :func:`to_json`.

    Raises
    ------
    InputError
        If the text is something else.
    """
    try:
        record = decode(text)
        atoms, results = Atoms.fromdict(record["atoms"]), dict(record["results"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"this is not the JSON of asesc.records.to_json: {error}") from error
    atoms.info = _arrays(atoms.info)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _remember_inputs(copy: Atoms, extras: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    level = copy.info.get("fermi_level", parameters.get("fermi_level"))
    if level is not None:
        copy.info["fermi_level"] = float(level)
    elif "charge" in extras:
        copy.info.pop("total_charge", None)
        copy.info["charge"] = float(extras["charge"])
    if "spin" in extras:
        for key in ("multiplicity", "spin_multiplicity"):
            copy.info.pop(key, None)
        copy.info["spin"] = int(extras["spin"])
    if "electric_field" in extras:
        copy.info.pop("external_field", None)
        copy.info["electric_field"] = np.array(extras["electric_field"])


def _outputs(calc: Any, extras: Mapping[str, Any]) -> dict[str, Any]:
    record = calc.todict() if hasattr(calc, "todict") else {}
    found: dict[str, Any] = {k: extras[k] for k in _FROM_EXTRAS if k in extras}
    found.update({k: calc.results[k] for k in _FROM_RESULTS if k in calc.results})
    found.update({k: record[k] for k in _FROM_CALCULATOR if k in record})
    return _plain(found)


def _plain(value: Any) -> Any:
    """What every file format can hold, all the way down: arrays as lists, objects as their parts.

    ASE's spacegroup of a crystal, which its readers of CIF put into ``info``, is such an object.
    """
    if hasattr(value, "todict"):
        value = value.todict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | complex):
        return value
    raise InputError(
        f"atoms.info holds {value!r}, a {type(value).__name__}, which no file keeps; remove it, or "
        "replace it by numbers and text"
    )


def _arrays(info: Mapping[str, Any]) -> dict[str, Any]:
    """The field as an array again; other entries as they were stored."""
    restored = dict(info)
    if "electric_field" in restored:
        restored["electric_field"] = np.asarray(restored["electric_field"], dtype=float)
    return restored
