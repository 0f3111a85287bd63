"""Real Fourier transforms of meshes, on the waves that a smooth density has.

A mesh resolves waves up to π/spacing, but splines of high order need a spacing so fine that the
Gaussians, exp(−k²σ²), are gone at about two thirds of that along every direction. Only the waves of
that box are kept, a quarter of all. On meshes of up to some seventy points along an edge they are
computed by products with matrices of cosines and sines: that is more arithmetic than a fast Fourier
transform, but of the kind that a processor does ten times as fast. Larger meshes, and those on a
GPU, take fast transforms and all waves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import torch
from torch import Tensor

_AXES = (-3, -2, -1)

#: Points along the longest edge up to which matrices are faster.
LARGEST = 72


class MeshTransform(ABC):
    """F and F⁻¹ between real meshes (…, nx, ny, row) and half of their waves (…, kx, ky, kz).

    Rows along z may be longer than the nz points of the mesh, as stencils like to have them that
    reach beyond its end: :meth:`forward` adds what is there to the first points, and
    :meth:`inverse` repeats these there.

    Attributes
    ----------
    shape : tuple of 3 int
        Mesh points.
    row : int
        Numbers in a row, nz or more.
    numbers : tuple of 3 Tensor, int64
        Which waves are kept along every mesh vector; those of the last are not negative, where
        −k is represented by k.
    weight : Tensor, (kz,)
        Of a wave in sums over the mesh: 1/n, doubled where it stands for −k too.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        row: int,
        numbers: tuple[Tensor, Tensor, Tensor],
        dtype: torch.dtype,
    ) -> None:
        self.shape, self.row, self.numbers = shape, row, numbers
        last = numbers[2]
        alone = (last == 0) | (2 * last == shape[2])
        self.weight = torch.where(alone, 1.0, 2.0).to(dtype) / math.prod(shape)

    @abstractmethod
    def forward(self, mesh: Tensor) -> Tensor:
        """Σ_g ρ_g e^(−ik·g)."""

    @abstractmethod
    def inverse(self, waves: Tensor) -> Tensor:
        """Σ_k φ_k e^(ik·g)/n over all waves ±k."""


class FastTransform(MeshTransform):
    """All waves of the mesh, O(n log n)."""

    def __init__(
        self, shape: tuple[int, int, int], row: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        signed = [torch.fft.fftfreq(n, 1 / n, device=device).round().long() for n in shape[:2]]
        half = torch.arange(shape[2] // 2 + 1, device=device)
        super().__init__(shape, row, (signed[0], signed[1], half), dtype)

    def forward(self, mesh: Tensor) -> Tensor:
        nz = self.shape[2]
        folded = mesh
        if self.row > nz:
            folded = mesh[..., :nz].clone()
            for rest in mesh[..., nz:].split(nz, dim=-1):
                folded[..., : rest.shape[-1]] += rest
        return torch.fft.rfftn(folded, dim=_AXES)

    def inverse(self, waves: Tensor) -> Tensor:
        mesh = torch.fft.irfftn(waves, s=self.shape, dim=_AXES)
        points = torch.arange(self.shape[2], self.row, device=mesh.device) % self.shape[2]
        return torch.cat([mesh, mesh[..., points]], dim=-1) if len(points) else mesh


class MatrixTransform(MeshTransform):
    """Waves up to a number along every mesh vector, by one matrix product per direction.

    Parameters
    ----------
    waves : tuple of 3 int
        The largest numbers, below half of the mesh points.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        row: int,
        waves: tuple[int, int, int],
        *,
        dtype: torch.dtype,
    ) -> None:
        signed = [torch.cat([torch.arange(w + 1), torch.arange(-w, 0)]) for w in waves[:2]]
        super().__init__(shape, row, (signed[0], signed[1], torch.arange(waves[2] + 1)), dtype)
        angles = [
            2 * math.pi / n * (m[:, None] * torch.arange(length) % n).to(dtype)
            for m, n, length in zip(self.numbers, shape, (*shape[:2], row), strict=True)
        ]
        self._x, self._y = (torch.polar(torch.ones_like(a), -a) for a in angles[:2])
        self._x_back, self._y_back = (
            m.conj().T.resolve_conj().contiguous() for m in (self._x, self._y)
        )
        parts = torch.stack([angles[2].cos(), -angles[2].sin()], dim=1)  # real and imaginary
        self._z = parts.flatten(0, 1).T.contiguous()
        self._z_back = (parts * self.weight[:, None, None]).flatten(0, 1).contiguous()

    def forward(self, mesh: Tensor) -> Tensor:
        nx, ny, _ = self.shape
        lines = (mesh.reshape(-1, self.row) @ self._z).view(-1, len(self._z_back) // 2, 2)
        planes = _product(self._x, torch.view_as_complex(lines).view(-1, nx, ny * lines.shape[1]))
        waves = _product(self._y, planes.view(-1, ny, lines.shape[1]))
        return waves.view(*mesh.shape[:-3], len(self._x), len(self._y), -1)

    def inverse(self, waves: Tensor) -> Tensor:
        nx, ny, _ = self.shape
        kx, ky, kz = waves.shape[-3:]
        planes = _product(self._y_back, waves.reshape(-1, ky, kz))
        lines = _product(self._x_back, planes.view(-1, kx, ny * kz)).view(-1, kz)
        mesh = torch.view_as_real(lines).view(-1, 2 * kz) @ self._z_back
        return mesh.view(*waves.shape[:-3], nx, ny, self.row)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def mesh_transform(
    shape: tuple[int, int, int],
    row: int,
    waves: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> MeshTransform:
    """The faster one for a mesh of which waves up to these numbers are needed."""
    is_pruned = all(2 * w < n for w, n in zip(waves, shape, strict=True))
    if is_pruned and device.type == "cpu" and max(shape) <= LARGEST:
        return MatrixTransform(shape, row, waves, dtype=dtype)
    return FastTransform(shape, row, dtype=dtype, device=device)


def _product(matrix: Tensor, blocks: Tensor) -> Tensor:
    """One matrix (r, c) times many (…, c, k)."""
    return torch.bmm(matrix.expand(len(blocks), *matrix.shape), blocks)
