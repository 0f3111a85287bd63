"""How far a density is from being the derivative of its energy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.electrostatics.field import along_open_axes, periodic_axis_of_field
from asesc.models import Potential
from asesc.system import System


@dataclass(frozen=True)
class Conjugacy:
    """Observables of the density beside the derivatives of the energy.

    They are the same numbers in variational families. In the others both exist: the dipole of the
    density is what was trained and what makes the potential, −∂E/∂E_field is the work of a field.

    Parameters
    ----------
    dipole : Tensor, (B, 3), e Å
        μ[p] of the density.
    conjugate_dipole : Tensor, (B, 3), e Å
        −∂E/∂E_field. Along open directions only, unless the family has an itinerant polarisation.
    fermi_level : Tensor, (B,), eV, or None
        Of the density.
    conjugate_level : Tensor, (B,), eV, or None
        −∂E/∂Q.
    """

    dipole: Tensor
    conjugate_dipole: Tensor
    fermi_level: Tensor | None
    conjugate_level: Tensor | None

    @property
    def dipole_mismatch(self) -> Tensor:
        """|μ[p] + ∂E/∂E_field|, (B,), e Å."""
        return torch.linalg.vector_norm(self.dipole - self.conjugate_dipole, dim=-1)

    @property
    def level_mismatch(self) -> Tensor | None:
        """|level + ∂E/∂Q|, (B,), eV, or None where there is no level."""
        if self.fermi_level is None or self.conjugate_level is None:
            return None
        return (self.fermi_level - self.conjugate_level).abs()


def conjugacy(model: Potential, system: System, *, boundary: str = "auto") -> Conjugacy:
    """Compare dipole and Fermi level with the derivatives of the energy, at fixed charge.

    Cost: one evaluation and one backward pass through the density, not through the backbone.
    """
    leaves = {
        "electric_field": system.electric_field.detach().clone().requires_grad_(),
        "charge": system.charge.detach().clone().requires_grad_(),
    }
    with torch.enable_grad():
        prediction = model(replace(system, fermi_level=None, **leaves), boundary=boundary)
        field_slope, charge_slope = torch.autograd.grad(
            prediction.energy.sum(), tuple(leaves.values()), materialize_grads=True
        )
    dipole = prediction.dipole.detach()
    if not model.has_itinerant_polarisation:
        dipole = along_open_axes(system, dipole)
    level = prediction.fermi_level
    has_level = level is not None and periodic_axis_of_field(system) is None
    return Conjugacy(
        dipole=dipole,
        conjugate_dipole=-field_slope,
        fermi_level=level.detach() if has_level else None,
        conjugate_level=-charge_slope if has_level else None,
    )


def conjugacy_errors(model: Potential, systems: Iterable[System]) -> dict[str, float]:
    """Root mean squares over structures, as a model's card states them.

    Returns
    -------
    dict of str to float
        ``"dipole"``, e Å per component that the structure has, unless none has any;
        ``"fermi_level"``, eV, where the family has one.
    """
    dipoles, levels = [], []
    for system in systems:
        result = conjugacy(model, system)
        components = 3 if model.has_itinerant_polarisation else 3 - sum(system.pbc)
        if components > 0:
            dipoles.append(result.dipole_mismatch**2 / components)
        if result.level_mismatch is not None:
            levels.append(result.level_mismatch**2)
    squares = {"dipole": dipoles, "fermi_level": levels}
    return {name: float(torch.cat(s).mean().sqrt()) for name, s in squares.items() if s}
