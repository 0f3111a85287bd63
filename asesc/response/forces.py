"""Forces and stress: the one strained autograd pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.errors import PropertyUnavailableError
from asesc.models import Potential, Prediction
from asesc.system import System


@dataclass(frozen=True)
class ForceResult:
    """Energy derivatives of one evaluation.

    Parameters
    ----------
    prediction : Prediction
    forces : Tensor, (N, 3), eV/Å
    stress : Tensor, (B, 3, 3), eV/Å³, or None
        (1/V) ∂E/∂ε at fixed voltage E_field·h along the cell vectors, positive under tension. For
        slabs the in-plane components with V the volume of the cell as given; components along the
        open axis are zero.
    conjugate_dipole : Tensor, (B, 3), e Å, or None
        −∂E/∂E_field, where the system's field requires gradients.
    """

    prediction: Prediction
    forces: Tensor
    stress: Tensor | None
    conjugate_dipole: Tensor | None = None

    def split(self, system: System) -> list[ForceResult]:
        """The results of every structure of the batch, as a batch of one."""
        rows, stress, conjugate = system.counts.tolist(), self.stress, self.conjugate_dipole
        parts = zip(self.prediction.split(rows), self.forces.split(rows), strict=True)
        return [
            ForceResult(
                prediction,
                forces,
                stress=None if stress is None else stress[b : b + 1],
                conjugate_dipole=None if conjugate is None else conjugate[b : b + 1],
            )
            for b, (prediction, forces) in enumerate(parts)
        ]


def energy_and_forces(
    model: Potential,
    system: System,
    *,
    stress: bool = False,
    boundary: str = "auto",
    create_graph: bool = False,
) -> ForceResult:
    """F = −∂E/∂R at fixed charge and field, and the proper stress σ = (1/V) ∂E/∂ε.

    The strain ε acts once, on positions, cell and field together, before anything else is
    computed; no kernel or family knows about stress. Held fixed under strain are the charge and
    the reduced field, i.e. the voltage E_field·h along every cell vector, as if electrodes moved
    with the crystal. Then E_field·μ = Σ_a (E_field·h_a) p_a changes with the reduced polarisation
    p = μ·h⁻¹ alone, whose quanta are constants, and σ does not depend on the stored images of the
    ions. At fixed Cartesian field the derivative would be σ − ½(E⊗P + P⊗E) with P = μ/V, which
    does. Fields along open directions are the same under in-plane strain either way.

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

    References
    ----------
    I. Souza, J. Íñiguez, D. Vanderbilt, Phys. Rev. Lett. 89, 117602 (2002),
    doi:10.1103/PhysRevLett.89.117602 (energy in a field); D. Vanderbilt, J. Phys. Chem. Solids 61,
    147 (2000), doi:10.1016/S0022-3697(99)00273-5 (proper strain derivatives of the polarisation).
    """
    positions = system.positions
    if not positions.requires_grad:
        positions = positions.detach().clone().requires_grad_()
    system, leaves = replace(system, positions=positions), {"positions": positions}
    if system.electric_field.requires_grad:
        leaves["field"] = system.electric_field
    if stress:
        require_stress(system)
        leaves["strain"] = torch.zeros_like(system.cell).requires_grad_()
        symmetric = 0.5 * (leaves["strain"] + leaves["strain"].transpose(-1, -2))
    prediction = model(
        system.strained(symmetric) if stress else system,
        boundary=boundary,
        order=2 if create_graph else 1,
    )
    # A field along periodic directions that the family does not see has no gradient.
    gradients = torch.autograd.grad(
        prediction.energy.sum(),
        tuple(leaves.values()),
        create_graph=create_graph,
        materialize_grads=True,
    )
    slopes = dict(zip(leaves, gradients, strict=True))
    return ForceResult(
        prediction,
        forces=-slopes["positions"],
        stress=stress_from_virial(system, slopes["strain"]) if stress else None,
        conjugate_dipole=-slopes["field"] if "field" in slopes else None,
    )


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
