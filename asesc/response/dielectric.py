"""High-frequency dielectric tensor of crystals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asesc.errors import PropertyUnavailableError
from asesc.models import Potential
from asesc.response.polarizability import polarizability
from asesc.system import System
from asesc.units import COULOMB


def dielectric_tensor(model: Potential, system: System, *, boundary: str = "auto") -> Tensor:
    """ε∞ = 1 + 4π k_e α/V at clamped ions, (B, 3, 3).

    α is the response to the *macroscopic* field, because the periodic Coulomb kernel drops k = 0
    (tin-foil); no local-field correction remains to be made.

    Raises
    ------
    PropertyUnavailableError
        If the cell is not periodic in three directions or the family takes no field there.
    """
    if not all(system.pbc):
        raise PropertyUnavailableError(
            f"'dielectric_tensor' needs three periodic directions, not pbc={system.pbc}; "
            "ask for the polarizability"
        )
    if not model.has_itinerant_polarisation:
        raise PropertyUnavailableError(
            f"{model.family} takes no field in periodic directions, hence has no dielectric "
            "tensor; use SplitChargeEquilibration"
        )
    alpha = polarizability(model, system, boundary=boundary)
    identity = torch.eye(3, dtype=alpha.dtype, device=alpha.device)
    return identity + 4 * math.pi * COULOMB * alpha / system.volume[:, None, None]
