"""Second derivatives on request, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from asesc.errors import IllPosedError
from asesc.models import Potential
from asesc.response import born_effective_charges, dielectric_tensor, hessian, polarizability
from asesc.system import System


def respond(
    name: str, model: Potential, system: System, *, boundary: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """One response property of one structure, and what is to be said beside it.

    Parameters
    ----------
    name : str
        ``"born_effective_charges"`` (N, 3, 3) e, ``"dielectric_tensor"`` (3, 3),
        ``"polarizability"`` (3, 3) e Å²/V or ``"hessian"`` (3N, 3N) eV/Å².

    Raises
    ------
    PropertyUnavailableError
        Not defined for this boundary or family, see :mod:`asesc.response`.
    IllPosedError
        The result is not finite.
    """
    tensor, beside = _compute(name, model, system, boundary)
    array = tensor.detach().cpu().double().numpy().copy()
    if not np.isfinite(array).all():
        raise IllPosedError(
            f"{name!r} of these {system.n_atoms} atoms is not finite although the energy is; two "
            "atoms may coincide with a kink of the model, or float32 overflowed. Use "
            "dtype='float64'"
        )
    return array, beside


def _compute(
    name: str, model: Potential, system: System, boundary: str
) -> tuple[Tensor, dict[str, Any]]:
    if name == "born_effective_charges":
        charges = born_effective_charges(model, system, boundary=boundary)
        error = charges.acoustic_sum_error[0].detach().cpu().numpy().copy()
        return charges.tensor, {"acoustic_sum_error": error}
    if name == "dielectric_tensor":
        return dielectric_tensor(model, system, boundary=boundary)[0], {}
    if name == "polarizability":
        return polarizability(model, system, boundary=boundary)[0], {}
    return hessian(model, system, boundary=boundary), {}
