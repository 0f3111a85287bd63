"""Dipoles about a stated origin and the polarisation of periodic cells."""

from __future__ import annotations

from torch import Tensor

from asesc.errors import PropertyUnavailableError
from asesc.models import Potential, Prediction
from asesc.system import System


def molecular_dipole(prediction: Prediction, *, origin: Tensor) -> Tensor:
    """μ = Σ(q r + d) − Q r₀ about an origin r₀ (B, 3) Å: (B, 3), e Å.

    For neutral structures the origin does not matter. It is meaningful along open directions;
    periodic ones carry the polarisation instead, see :func:`polarisation`.
    """
    return prediction.dipole - prediction.charge[:, None] * origin


def polarisation(model: Potential, prediction: Prediction, system: System) -> Tensor:
    """P = μ/V of a three-dimensional cell, (B, 3), e/Å², modulo the quantum q⁰ h/V.

    Raises
    ------
    PropertyUnavailableError
        If the family has no itinerant polarisation, the cell is not periodic in three directions,
        or it is charged (P would depend on the origin).
    """
    if not all(system.pbc):
        raise PropertyUnavailableError(
            f"'polarization' is defined for three periodic directions, not pbc={system.pbc}; "
            "ask for 'dipole'"
        )
    if not model.has_itinerant_polarisation:
        raise PropertyUnavailableError(
            f"{model.family} reads absolute positions and has no polarisation in a periodic cell; "
            "use SplitCharges or SplitChargeEquilibration"
        )
    if system.fermi_level is not None or bool((system.charge != 0).any()):
        raise PropertyUnavailableError("the polarisation of a charged cell depends on the origin")
    return prediction.dipole / system.volume[:, None]
