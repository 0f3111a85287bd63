"""Charge, Fermi level and field of one frame: from ``atoms.info``, else from the calculator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from asesc.errors import InputError

#: Names under which ``atoms.info`` may hold an input; the first is ours.
CHARGE_KEYS = ("charge", "total_charge")
SPIN_KEYS = ("spin", "multiplicity", "spin_multiplicity")
FIELD_KEY = "electric_field"
FERMI_KEY = "fermi_level"
SITES_KEY = "charge_sites"
#: MACE's name for a field of the opposite sign: there the force on a charge +q is −q times it.
OPPOSITE_FIELD_KEY = "external_field"

#: V/Å; the field that ionises any molecule, hence a sign of wrong units.
LARGEST_FIELD = 5.0
_LARGEST_IN_OTHER_UNITS = 1e4

_READ = {re.sub("[^a-z]", "", k): k for k in (*CHARGE_KEYS, *SPIN_KEYS, FIELD_KEY, FERMI_KEY)}
_NEAR = {
    **_READ,
    "efield": FIELD_KEY,
    "elecfield": FIELD_KEY,
    "externalefield": FIELD_KEY,
    "netcharge": "charge",
    "mult": "multiplicity",
    "totalspin": "spin",
    "chargesites": SITES_KEY,
    "efermi": FERMI_KEY,
    "fermienergy": FERMI_KEY,
}
#: Names that are near ours and mean something else.
_OTHERS = frozenset({"charges", "spins", "REF_fermi_level"})
#: All keys that are read.
INPUT_KEYS = frozenset(
    {*CHARGE_KEYS, *SPIN_KEYS, FIELD_KEY, OPPOSITE_FIELD_KEY, FERMI_KEY, SITES_KEY}
)


@dataclass(frozen=True)
class Given:
    """An input and where it was found, for messages and ``calc.extras``."""

    value: Any
    source: str


def read_charge(info: Mapping[str, Any], default: float) -> Given:
    """Total charge in e.

    Raises
    ------
    InputError
        Two synonyms disagree, or the entry is not one finite number.
    """
    return read_synonyms(info, CHARGE_KEYS, parse_charge, default)


def read_synonyms(
    info: Mapping[str, Any],
    keys: Iterable[str],
    parse: Callable[[Any, str], float | None],
    default: float | None,
) -> Given:
    """An input that may stand under several names.

    Raises
    ------
    InputError
        Two of them disagree, or ``parse`` refuses an entry.
    """
    found = {key: parse(info[key], f"atoms.info[{key!r}]") for key in keys if key in info}
    if len(set(found.values())) > 1:
        values = {k: value if value is None else f"{value:g}" for k, value in found.items()}
        entries = " and ".join(f"{key!r}={value}" for key, value in values.items())
        raise InputError(f"atoms.info has {entries}, which mean the same input; keep one")
    for key, value in found.items():
        return Given(value, f"atoms.info[{key!r}]")
    return Given(default, "calculator")


def read_field(info: Mapping[str, Any], default: tuple[float, float, float]) -> Given:
    """Applied field in V/Å with the physicists' sign.

    Raises
    ------
    InputError
        Both field keys are present, or the entry is not three finite numbers in V/Å.
    """
    if FIELD_KEY in info and OPPOSITE_FIELD_KEY in info:
        raise InputError(
            f"atoms.info has both {FIELD_KEY!r} and {OPPOSITE_FIELD_KEY!r}, whose signs are "
            "opposite (the force on a charge +q is +q times the first and −q times the second, "
            "MACE's name); keep one"
        )
    if FIELD_KEY in info:
        source = f"atoms.info[{FIELD_KEY!r}]"
        return Given(parse_field(info[FIELD_KEY], source), source)
    if OPPOSITE_FIELD_KEY in info:
        source = f"atoms.info[{OPPOSITE_FIELD_KEY!r}]"
        x, y, z = parse_field(info[OPPOSITE_FIELD_KEY], source)
        return Given((0.0 - x, 0.0 - y, 0.0 - z), f"{source}, sign reversed")
    return Given(default, "calculator")


def read_fermi_level(
    info: Mapping[str, Any], default: float | None, *, charge: float
) -> Given | None:
    """Fermi level in eV that replaces the total charge as an input; None for a fixed charge.

    Parameters
    ----------
    default, charge
        The calculator's own Fermi level and charge.

    Raises
    ------
    InputError
        A charge is given as well, or the entry is not one finite number.
    """
    level = Given(default, "calculator")
    if FERMI_KEY in info:
        source = f"atoms.info[{FERMI_KEY!r}]"
        level = Given(parse_fermi_level(info[FERMI_KEY], source), source)
    if level.value is None:
        return None
    charges = [f"atoms.info[{key!r}]={info[key]!r}" for key in CHARGE_KEYS if key in info]
    if charge != 0:
        charges.append(f"charge={charge:g}")
    if charges:
        raise InputError(
            f"fermi_level={level.value:g} eV (from {level.source}) and {charges[0]} are both "
            "given, but at a fixed Fermi level the total charge is what is found. Keep one"
        )
    return level


def parse_fermi_level(value: Any, source: str = "fermi_level") -> float | None:
    """One finite number of electronvolts, or None, or :class:`InputError`."""
    if value is None:
        return None
    number = _numbers(value)
    if number is None or number.ndim != 0 or not np.isfinite(number):
        raise InputError(
            f"{source} must be one finite number, the electrons' Fermi level in eV, or None for a "
            f"fixed charge; got {value!r}"
        )
    return float(number)


def parse_charge(value: Any, source: str = "charge") -> float:
    """One finite number of elementary charges, or :class:`InputError`."""
    number = _numbers(value)
    if number is None or number.ndim != 0 or not np.isfinite(number):
        raise InputError(
            f"{source} must be one finite number, the total charge in e; got {value!r}"
        )
    return float(number)


def parse_field(value: Any, source: str = "electric_field") -> tuple[float, float, float]:
    """Three finite numbers of at most 5 V/Å, or :class:`InputError`."""
    field = _numbers(value)
    if field is None or not np.isfinite(field).all():
        raise InputError(f"{source} must be 3 finite numbers in V/Å; got {value!r}")
    if field.shape != (3,):
        raise InputError(
            f"{source} must be 3 numbers in V/Å; got shape {field.shape}. Give one vector, "
            "for example (0, 0, 0.05)"
        )
    norm = float(np.linalg.norm(field))
    if norm > LARGEST_FIELD:
        hint = "check the units (1 atomic unit = 51.4 V/Å)"
        if norm > _LARGEST_IN_OTHER_UNITS:
            hint = f"{norm:g} looks like V/m (= {norm * 1e-10:g} V/Å)"
        raise InputError(
            f"{source} has norm {norm:g} V/Å, where matter ionises (limit {LARGEST_FIELD:g} V/Å); "
            f"{hint}"
        )
    x, y, z = (float(component) for component in field)
    return x, y, z


def require_whole(charge: Given) -> None:
    """Refuse a charge that is not an integer, unless the user allows it."""
    if abs(charge.value - round(charge.value)) > 1e-8:
        raise InputError(
            f"charge {charge.value:+g} e (from {charge.source}) is not an integer, as the charge "
            "of every isolated system is. If it is meant, pass allow_fractional_charge=True to the "
            "calculator"
        )


def unread_keys(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of ``atoms.info`` that look like an input and are not read, with the one meant.

    >>> list(unread_keys({"Charge": 1, "total charge": 1, "efield": (0, 0, 1), "name": "a"}))
    [('Charge', 'charge'), ('total charge', 'total_charge'), ('efield', 'electric_field')]
    """
    for key in info:
        if not isinstance(key, str) or key in INPUT_KEYS | _OTHERS:
            continue
        near = get_close_matches(re.sub("[^a-z]", "", key.casefold()), _NEAR, n=1, cutoff=0.83)
        if near:
            yield key, _NEAR[near[0]]


def _numbers(value: Any) -> np.ndarray | None:
    """A fresh array of floats; None for text, truth values, complex numbers and ragged lists."""
    if value is None:
        return None
    try:
        given = np.asarray(value)
        return None if given.dtype.kind in "SUbc" else given.astype(float)
    # RuntimeError comes from tensors that require gradients, which would be lost in silence.
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
