"""The atoms that carry the charge of one frame, for models whose charge localises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asesc.calculators.inputs import SITES_KEY
from asesc.calculators.opened import OpenedModel
from asesc.errors import InputError


def read_sites(
    info: Mapping[str, Any], n_atoms: int, opened: OpenedModel
) -> tuple[float, ...] | None:
    """Weights per atom from the indices in ``atoms.info["charge_sites"]``, or None.

    An index given twice counts twice: ``[3, 3, 7]`` puts two thirds of the charge on atom 3.

    Raises
    ------
    InputError
        The entry is no list of atom indices, or the model would ignore it.
    """
    if SITES_KEY not in info:
        return None
    given = info[SITES_KEY]
    if not opened.model.localises_charge:
        raise InputError(
            f"atoms.info[{SITES_KEY!r}]={given!r}, but in model {opened.name!r} of the family "
            f"{opened.model.family} the charge finds its own place. Remove the entry, or use an "
            "EnergyFunctional with functional='localised'"
        )
    sites = None if isinstance(given, str | bytes) else np.atleast_1d(np.asarray(given))
    whole = sites is not None and sites.ndim == 1 and sites.size > 0 and sites.dtype.kind in "iu"
    if not whole or sites.min() < 0 or sites.max() >= n_atoms:
        raise InputError(
            f"atoms.info[{SITES_KEY!r}] must be a list of atom indices 0 … {n_atoms - 1}, the "
            f"atoms that carry the charge beyond the formal charges; got {given!r}"
        )
    return tuple(np.bincount(sites, minlength=n_atoms).astype(float).tolist())
