"""Response of the dipole to a uniform field."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asesc.models import Potential, Prediction
from asesc.system import System


def polarizability(model: Potential, system: System, *, boundary: str = "auto") -> Tensor:
    """α_ab = ∂μ_a/∂E_b at fixed geometry and charge: (B, 3, 3), e Å²/V.

    Columns of field directions in which a family takes no field (periodic directions without an
    itinerant polarisation) are zero. Cost: one evaluation and three backward passes through the
    density, not through the backbone.
    """
    field = system.electric_field.detach().clone().requires_grad_()
    prediction = model(replace(system, electric_field=field), boundary=boundary)
    return field_derivative(prediction, field)


def field_derivative(
    prediction: Prediction, field: Tensor, *, create_graph: bool = False
) -> Tensor:
    """∂μ/∂E of a prediction made with a field that requires gradients: (B, 3, 3)."""
    if not prediction.dipole.requires_grad:
        return torch.zeros(len(field), 3, 3, dtype=field.dtype, device=field.device)
    rows = []
    for a in range(3):
        (row,) = torch.autograd.grad(
            prediction.dipole[:, a].sum(),
            field,
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )
        rows.append(row)
    return torch.stack(rows, dim=1)
