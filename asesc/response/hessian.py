"""Force constants."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from asesc.models import Potential
from asesc.system import System


def hessian(model: Potential, system: System, *, boundary: str = "auto") -> Tensor:
    """∂²E/∂R∂R of one structure, (3N, 3N), eV/Å², symmetrised.

    Rows by backward passes through the force graph; cost 3N backward passes.
    """
    positions = system.positions.detach().clone().requires_grad_()
    energy = model(replace(system, positions=positions), boundary=boundary).energy.sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    rows = [
        torch.autograd.grad(component, positions, retain_graph=True)[0].reshape(-1)
        for component in gradient.reshape(-1)
    ]
    matrix = torch.stack(rows)
    return 0.5 * (matrix + matrix.T)
