"""Born effective charges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.errors import PropertyUnavailableError
from asesc.models import Potential
from asesc.system import System


@dataclass(frozen=True)
class BornCharges:
    """Born effective charges Z*[atom, polarisation, displacement].

    Parameters
    ----------
    tensor : Tensor, (N, 3, 3), e
    acoustic_sum_error : Tensor, (B, 3, 3), e
        Σ_i Z*_i − Q·1, zero for a translation-invariant dipole.
    """

    tensor: Tensor
    acoustic_sum_error: Tensor


def born_effective_charges(
    model: Potential, system: System, *, boundary: str = "auto"
) -> BornCharges:
    """Z*_i,ab = ∂μ_a/∂R_ib at fixed field and charge, from the model's own dipole.

    Equals ∂F_ib/∂E_a for variational families. Cost: one evaluation and three backward passes
    through everything.

    Raises
    ------
    PropertyUnavailableError
        In periodic cells for families without an itinerant polarisation.
    """
    if any(system.pbc) and not model.has_itinerant_polarisation:
        raise PropertyUnavailableError(
            f"{model.family} has no polarisation along periodic directions, hence no Born charges "
            "there; use SplitCharges or SplitChargeEquilibration"
        )
    positions = system.positions.detach().clone().requires_grad_()
    prediction = model(replace(system, positions=positions), boundary=boundary)
    rows = [
        torch.autograd.grad(prediction.dipole[:, a].sum(), positions, retain_graph=a < 2)[0]
        for a in range(3)
    ]
    tensor = torch.stack(rows, dim=1)
    identity = torch.eye(3, dtype=tensor.dtype, device=tensor.device)
    charge = prediction.charge.detach()[:, None, None]
    return BornCharges(tensor, system.sum(tensor) - charge * identity)
