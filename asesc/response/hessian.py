"""Force constants."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asesc.models import Potential
from asesc.system import System


def hessian(model: Potential, system: System, *, boundary: str = "auto") -> Tensor:
    """∂²E/∂R∂R of one structure, (3N, 3N), eV/Å², symmetrised.

    At fixed charge or, if the system has one, fixed Fermi level. Rows by backward passes through
    the force graph; cost 3N backward passes. See :func:`hessian_vector_product` for few directions.
    """
    positions, gradient = _gradient(model, system, boundary)
    rows = [
        torch.autograd.grad(component, positions, retain_graph=True)[0].reshape(-1)
        for component in gradient.reshape(-1)
    ]
    matrix = torch.stack(rows)
    return 0.5 * (matrix + matrix.T)


def hessian_vector_product(
    model: Potential, system: System, direction: Tensor, *, boundary: str = "auto"
) -> Tensor:
    """Σ_jb ∂²E/∂R_ia∂R_jb v_jb, (N, 3), eV/Å times the unit of v/Å, without graph.

    Minus the change of the forces along v, with the response of the density in it, exact for every
    family. Cost: one evaluation and two backward passes, whatever N.

    Parameters
    ----------
    system : System
        One or several structures.
    direction : Tensor, (N, 3)
        v.
    """
    positions, gradient = _gradient(model, system, boundary)
    (product,) = torch.autograd.grad(gradient, positions, direction.to(gradient))
    return product


def _gradient(model: Potential, system: System, boundary: str) -> tuple[Tensor, Tensor]:
    """Positions and ∂E/∂R with its graph, both (N, 3)."""
    with torch.enable_grad():
        positions = system.positions.detach().clone().requires_grad_()
        energy = model(replace(system, positions=positions), boundary=boundary).energy.sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    return positions, gradient
