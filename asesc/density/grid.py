"""Regular grids of points, and the density of isolated structures on points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.density.density import Density
from asesc.density.harmonics import degree, double_factorials, solid_harmonics
from asesc.errors import InputError
from asesc.system import System, cell_volume

#: Pairs of a point and an atom that are held at one time; bounds the memory to about 100 MB.
_PAIRS = 500_000


@dataclass(frozen=True)
class Grid:
    """Points r = o + Σ_a (n_a/N_a) h_a with n_a = 0 … N_a − 1, in one box per structure.

    The far faces are left out, as in cube files: along a period they are the near ones.

    Parameters
    ----------
    origin : Tensor, (B, 3), Å
    vectors : Tensor, (B, 3, 3), Å
        Rows are the edges h_a of the box.
    shape : tuple of 3 int
        Points N_a along every edge, common to the batch.
    """

    origin: Tensor
    vectors: Tensor
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise InputError(f"a grid of shape {self.shape} has no points; use at least (1, 1, 1)")
        if not bool((self.volume_element > 0).all()):
            raise InputError(
                f"the edges {self.vectors.tolist()} span no volume, so that no grid fits between "
                "them. Give the cell a size along every axis: atoms.center(vacuum=…)"
            )

    @classmethod
    def over_cell(cls, system: System, shape: tuple[int, int, int]) -> Grid:
        """The grid that fills the cell of every structure, from its origin."""
        return cls(torch.zeros_like(system.cell[:, 0]), system.cell.detach(), shape)

    def fractions(self, axis: int) -> Tensor:
        """n/N along one edge, (N_axis,)."""
        count = self.shape[axis]
        steps = torch.arange(count, dtype=self.vectors.dtype, device=self.vectors.device)
        return steps / count

    @property
    def points(self) -> Tensor:
        """All points, (B, N₁, N₂, N₃, 3), Å."""
        mesh = torch.meshgrid(*(self.fractions(a) for a in range(3)), indexing="ij")
        inside = torch.einsum("xyza,bac->bxyzc", torch.stack(mesh, dim=-1), self.vectors)
        return self.origin[:, None, None, None] + inside

    @property
    def volume_element(self) -> Tensor:
        """Volume per point, (B,), Å³."""
        n_points = self.shape[0] * self.shape[1] * self.shape[2]
        return cell_volume(self.vectors) / n_points

    def integral(self, values: Tensor) -> Tensor:
        """∫ f d³r over the box: (B, N₁, N₂, N₃) → (B,).

        A plain sum, which converges exponentially with the spacing for smooth periodic functions
        and for those that vanish before they reach the faces.
        """
        return values.sum(dim=(1, 2, 3)) * self.volume_element


def density_at(system: System, density: Density, points: Tensor) -> Tensor:
    """ρ(r) = Σ_i Σ_lm p_i,lm φ_lm(r − r_i), without periodic images: (B, P), e/Å³.

    In real space φ_lm(r) = R_lm(r) g_σ(r)/[σ^(2l) (2l − 1)!!], which is Hobson's theorem for
    R_lm(−∇) on the Gaussian of :class:`~asesc.density.basis.GaussianBasis`.

    Parameters
    ----------
    points : Tensor, (B, P, 3), Å

    Notes
    -----
    Time O(nP) per structure, in pieces of bounded memory.
    """
    layout, lmax = system.layout, density.basis.lmax
    positions = layout.pad(system.positions)
    # Padded rows carry no coefficients; a width of 1 Å keeps them finite.
    width2 = torch.where(layout.mask, layout.pad(density.basis.widths) ** 2, 1.0)
    orders = torch.tensor([degree(c) for c in range(density.basis.n_components)])
    powers = width2[..., None] ** -orders.to(width2)
    p = layout.pad(density.coefficients) * powers / double_factorials(lmax, like=width2)
    norm = (2 * torch.pi * width2) ** -1.5
    pieces = []
    for some in points.split(max(1, _PAIRS // positions[..., 0].numel()), dim=1):
        separation = some[:, :, None] - positions[:, None]
        gaussian = norm[:, None] * torch.exp(-0.5 * separation.square().sum(-1) / width2[:, None])
        angular = (solid_harmonics(separation, lmax) * p[:, None]).sum(-1)
        pieces.append((angular * gaussian).sum(-1))
    return torch.cat(pieces, dim=1)
