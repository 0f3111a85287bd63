"""Green function of an isolated system on a mesh: no images, no truncation sphere.

On a mesh the potential is a sum over differences of mesh points, and only differences up to the
extent of the structure occur. The interaction k_e erf(r/2σ)/r of two Gaussians may be anything
beyond, as long as it is smooth and periodic in the computational box: we multiply it by

    χ(r) = Π_d ½ erfc((|r_d| − L_d/2)/w)

and add the images, so that neighbouring boxes blend into each other. With edges w a little wider
than the Gaussians the result is as smooth as they are, and the box need only be twice the structure
and a rim of a few w, whatever its shape; a sphere as in :class:`~.kernels.OpenKernel` has to
enclose the longest diagonal.

References
----------
R. W. Hockney, J. W. Eastwood, Computer Simulation Using Particles (1988), §6-5-4, for isolated
systems on meshes of twice the size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asesc.electrostatics.plan import EDGE, MeshPlan
from asesc.units import COULOMB


def open_green_function(plan: MeshPlan, *, like: Tensor) -> Tensor:
    """Transform of k_e erf(r/2σ)/r blended between images: (1, nx, ny, nz/2 + 1), V/e."""
    near, far = zip(*(_axis(n, length, plan, like) for n, length in _axes(plan)), strict=True)
    values = 0
    for x in (near[0], far[0]):
        for y in (near[1], far[1]):
            for z in (near[2], far[2]):
                values = values + _blended(x, y, z, plan.width)
    return _even_transform(values)


def _axes(plan: MeshPlan) -> list[tuple[int, float]]:
    return [(n, length or 0.0) for n, length in zip(plan.shape, plan.lengths, strict=True)]


def _axis(
    n: int, length: float, plan: MeshPlan, like: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Squared coordinate and χ of the mesh points up to L/2, and of their nearest images."""
    points = torch.arange(n // 2 + 1, dtype=like.dtype, device=like.device) * (length / n)
    edge = EDGE * plan.width

    def of(distance: Tensor) -> tuple[Tensor, Tensor]:
        return distance**2, 0.5 * torch.erfc((distance - 0.5 * length) / edge)

    return of(points), of(length - points)


def _blended(
    x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor], width: float
) -> Tensor:
    """χ k_e erf(r/2σ)/r on the octant of a box, (nx/2 + 1, ny/2 + 1, nz/2 + 1)."""
    r = (x[0][:, None, None] + y[0][:, None] + z[0]).sqrt()
    chi = x[1][:, None, None] * y[1][:, None] * z[1]
    at_zero = 1 / (width * torch.pi**0.5)
    return COULOMB * chi * torch.where(r > 0, torch.erf(r / (2 * width)) / r, at_zero)


def _even_transform(octant: Tensor) -> Tensor:
    """Real Fourier transform of a function even along all axes, from one octant of it."""
    for axis in range(3):
        n = 2 * (octant.shape[axis] - 1)
        mirrored = octant.narrow(axis, 1, n // 2 - 1).flip(axis)
        full = torch.cat([octant, mirrored], dim=axis)
        octant = torch.fft.rfft(full, dim=axis).real
    whole = torch.cat([octant, octant[1:-1].flip(0)], dim=0)
    return torch.cat([whole, whole[:, 1:-1].flip(1)], dim=1)[None]
