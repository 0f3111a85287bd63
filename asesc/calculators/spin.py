"""Spin multiplicity of one frame: read, checked against the number of electrons, or the lowest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from asesc.calculators.inputs import SPIN_KEYS, Given, read_synonyms
from asesc.calculators.opened import OpenedModel
from asesc.errors import InputError


def choose_spin(
    atoms: Atoms, default: int | None, *, charge: Given, opened: OpenedModel
) -> Given | None:
    """Multiplicity 2S + 1 of a frame; None for a model without spin.

    From ``atoms.info``, else ``default``, else the lowest that the number of electrons allows: 1
    or 2. With a fractional charge, which the user must have allowed, the parity is not checked.

    Raises
    ------
    InputError
        Two synonyms disagree, it is no multiplicity, the electrons cannot have it, or the model
        would ignore it.
    """
    refuse_unread_spin(atoms.info, default, opened)
    if not opened.model.has_spin:
        return None
    electrons = float(atoms.numbers.sum()) - charge.value
    spin = read_spin(atoms.info, default)
    if spin.value is None:
        return Given(1 + round(electrons) % 2, "the lowest possible")
    if electrons.is_integer():
        _require_possible(spin, int(electrons), charge)
    return spin


def parse_spin(value: Any, source: str = "spin") -> int | None:
    """A multiplicity 1, 2, 3, … or None, or :class:`InputError`."""
    if value is None:
        return None
    number = None if isinstance(value, bool | str | bytes) else np.asarray(value)
    if number is None or number.ndim != 0 or number.dtype.kind not in "iuf":
        raise InputError(f"{source} must be one number, the multiplicity 2S+1; got {value!r}")
    if number < 1 or not float(number).is_integer():
        doubled = 2 * float(number)
        meant = f"; for S={doubled / 2:g} pass {doubled + 1:g}" if doubled.is_integer() else ""
        raise InputError(f"{source}={value!r} is not a multiplicity 2S+1 (1, 2, 3, …){meant}")
    return int(number)


def read_spin(info: Mapping[str, Any], default: int | None) -> Given:
    """Multiplicity 2S + 1 of a frame as it is stated; None where nobody states it.

    Raises
    ------
    InputError
        Two synonyms disagree, or the entry is no multiplicity.
    """
    given = read_synonyms(info, SPIN_KEYS, parse_spin, default)
    return Given(default, "calculator") if given.value is None else given


def refuse_unread_spin(info: Mapping[str, Any], default: int | None, opened: OpenedModel) -> None:
    """Refuse a spin that the model would ignore."""
    if opened.model.has_spin:
        return
    given = {f"atoms.info[{key!r}]": info[key] for key in SPIN_KEYS if key in info}
    if default is not None:
        given["spin"] = default
    for source, value in given.items():
        raise InputError(
            f"{source}={value!r}, but model {opened.name!r} has no spin input: the number would be "
            "ignored and two spin states would get one energy. Remove it, or use a model trained "
            "with spin"
        )


def _require_possible(spin: Given, electrons: int, charge: Given) -> None:
    parity = "odd" if electrons % 2 == 0 else "even"
    lowest = 1 + electrons % 2
    unpaired = spin.value - 1
    if unpaired <= electrons and (electrons - unpaired) % 2 == 0:
        return
    tried = " or ".join(str(s) for s in (lowest, lowest + 2) if s - 1 <= electrons)
    raise InputError(
        f"{electrons} electrons with charge {charge.value:g} need an {parity} multiplicity of at "
        f"most {electrons + 1}; got spin={spin.value} (2S+1, from {spin.source}). Try {tried}"
    )
