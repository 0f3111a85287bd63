"""Uniform applied electric field as a potential conjugate to the density."""

from __future__ import annotations

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.errors import InputError
from asesc.system import System


def uniform_field_potential(system: System, basis: GaussianBasis) -> Tensor:
    """v_ext of a uniform field E: −E·r_i for charges, −E for dipoles; (N, M), V Å^−l.

    ⟨p, v_ext⟩ = −E·μ with μ = Σ_i (q_i r_i + d_i).

    Raises
    ------
    InputError
        If the field has a component along a periodic direction: there −E·r has no meaning for
        charges, and only families with an itinerant polarisation can take such a field.
    """
    require_open_field(system)
    field = system.electric_field[system.batch]
    v_ext = system.positions.new_zeros(system.n_atoms, basis.n_components)
    v_ext[:, 0] = -(field * system.positions).sum(-1)
    if basis.lmax > 0:
        v_ext[:, 1:4] = -field
    return v_ext


def along_open_axes(system: System, vectors: Tensor) -> Tensor:
    """The part of a vector per structure along its open directions, (B, 3).

    All of it for isolated systems, the part along the normal for slabs, nothing in crystals.
    """
    if not any(system.pbc):
        return vectors
    if sum(system.pbc) != 2:
        return torch.zeros_like(vectors)
    first, second = (axis for axis in range(3) if system.pbc[axis])
    normal = torch.linalg.cross(system.cell[:, first], system.cell[:, second])
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    return normal * (normal * vectors).sum(-1, keepdim=True)


def periodic_axis_of_field(system: System) -> int | None:
    """The first periodic cell vector along which the field of any structure has a component."""
    field, cell = system.electric_field.detach(), system.cell.detach()
    for axis in range(3):
        along = (field * cell[:, axis]).sum(-1).abs()
        is_along = bool((along > 1e-12 * (1 + cell[:, axis].norm(dim=-1))).any())
        if system.pbc[axis] and is_along:
            return axis
    return None


def require_open_field(system: System) -> None:
    """Refuse a field with a component along a periodic direction."""
    axis = periodic_axis_of_field(system)
    if axis is not None:
        along = (system.electric_field * system.cell[:, axis]).detach().sum(-1).abs()
        raise InputError(
            f"electric_field={system.electric_field[along.argmax()].tolist()} V/Å has a component "
            f"along the periodic cell vector {axis}, where −E·r is not defined. Use a field along "
            "an open direction, or a neutral cell and a family with an itinerant polarisation "
            "(SplitCharges, SplitChargeEquilibration)"
        )
