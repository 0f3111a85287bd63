"""Forces and stress: the one strained autograd pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.errors import PropertyUnavailableError
from asesc.models import Model, Prediction
from asesc.system import System


@dataclass(frozen=True)
class ForceResult:
    """Energy derivatives of one evaluation.

    Parameters
    ----------
    prediction : Prediction
    forces : Tensor, (N, 3), eV/Å
    stress : Tensor, (B, 3, 3), eV/Å³, or None
        ∂E/∂ε/V, positive under tension. For slabs the in-plane components with V the volume of
        the cell as given; components along the open axis are zero.
    """

    prediction: Prediction
    forces: Tensor
    stress: Tensor | None


def energy_and_forces(
    model: Model,
    system: System,
    *,
    stress: bool = False,
    boundary: str = "auto",
    create_graph: bool = False,
) -> ForceResult:
    """F = −∂E/∂R and σ = (1/V) ∂E/∂ε at fixed charge and field.

    The strain ε acts once, on positions and cell together, before anything else is computed; no
    kernel or family knows about stress. The field is held fixed under strain.

    Parameters
    ----------
    stress : bool
        Also return the stress; needs at least two periodic directions.
    create_graph : bool
        Keep the graph of the derivatives, for training and second derivatives.

    Raises
    ------
    PropertyUnavailableError
        If stress is asked for an isolated system.
    """
    positions = system.positions
    if not positions.requires_grad:
        positions = positions.detach().clone().requires_grad_()
    unstrained = replace(system, positions=positions)
    if not stress:
        prediction = model(unstrained, boundary=boundary)
        (gradient,) = torch.autograd.grad(
            prediction.energy.sum(), (positions,), create_graph=create_graph
        )
        return ForceResult(prediction, -gradient, None)
    require_stress(system)
    strain = torch.zeros_like(system.cell).requires_grad_()
    symmetric = 0.5 * (strain + strain.transpose(-1, -2))
    prediction = model(unstrained.strained(symmetric), boundary=boundary)
    gradient, virial = torch.autograd.grad(
        prediction.energy.sum(), (positions, strain), create_graph=create_graph
    )
    return ForceResult(prediction, -gradient, stress_from_virial(system, virial))


def require_stress(system: System) -> None:
    """Refuse the stress of a system without two periodic directions."""
    if sum(system.pbc) < 2:
        raise PropertyUnavailableError(
            f"'stress' is undefined for pbc={system.pbc}: an isolated system has no cell to "
            "strain. Relax the positions only, or make the structure periodic"
        )


def stress_from_virial(system: System, virial: Tensor) -> Tensor:
    """(1/V) ∂E/∂ε with the components along open axes removed, (B, 3, 3), eV/Å³."""
    if all(system.pbc):
        return virial / system.volume[:, None, None]
    first, second = (axis for axis in range(3) if system.pbc[axis])
    normal = torch.linalg.cross(system.cell[:, first], system.cell[:, second])
    volume = (normal * system.cell[:, system.pbc.index(False)]).sum(-1).abs()
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    eye = torch.eye(3, dtype=virial.dtype, device=virial.device)
    in_plane = eye - normal[:, :, None] * normal[:, None, :]
    return in_plane @ virial @ in_plane / volume[:, None, None]
