"""Multipoles to a mesh and back, by separable B-spline stencils.

With W(g − x) the product of three B-splines at mesh point g around an atom at x (in units of the
mesh spacings) and D^t a partial derivative with respect to x, two maps are all that is needed:

    spread   ρ_g = Σ_i,t P_i,t D^t W(g − x_i)
    gather   V_i,t = Σ_g φ_g D^t W(g − x_i)

They are each other's transpose, and differentiating either with respect to x only raises t. Hence
both are differentiable to any order while only P, φ and x are kept: the p³ values of a stencil
are made anew each time, for a few hundred atoms at once, and never stored.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from asesc.electrostatics.splines import spline_weights

#: Atoms whose p³ weights are in memory together: they stay in the cache of a core.
_CHUNK = 512


@lru_cache(maxsize=8)
def derivative_terms(order: int) -> tuple[tuple[int, int, int], ...]:
    """Partial derivatives up to a total order, lower orders first: a prefix of those of the next.

    >>> derivative_terms(1)
    ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    """
    span = range(order + 1)
    every = [(a, b, c) for a in span for b in span for c in span if a + b + c <= order]
    return tuple(sorted(every, key=lambda t: (sum(t), tuple(-n for n in t))))


@lru_cache(maxsize=8)
def raised_terms(order: int) -> tuple[tuple[int, int, int], ...]:
    """For every term, where its derivatives along x, y and z are in the next order."""
    higher = derivative_terms(order + 1)
    return tuple(
        (higher.index((a + 1, b, c)), higher.index((a, b + 1, c)), higher.index((a, b, c + 1)))
        for a, b, c in derivative_terms(order)
    )


class Stencil:
    """Where on a mesh the splines of every atom lie; carries no gradient.

    Parameters
    ----------
    x : Tensor, (N, 3)
        Positions in units of the mesh spacings, not wrapped.
    shape : tuple of 3 int
        Mesh points along the cell vectors, the last even.
    order : int
        Spline order p, even.
    channel : Tensor, (N,), int64
        Which of several meshes an atom belongs to.
    n_channels : int
    """

    def __init__(
        self,
        x: Tensor,
        shape: tuple[int, int, int],
        *,
        order: int,
        channel: Tensor,
        n_channels: int,
    ) -> None:
        self.shape, self.order, self.n_channels = shape, order, n_channels
        self._weights: dict[int, Tensor] = {}
        self._locate(x.detach(), channel)

    @property
    def row(self) -> int:
        """Numbers in a row of the mesh along z; beyond nz they belong to the first points."""
        return self.shape[2]

    def _locate(self, x: Tensor, channel: Tensor) -> None:
        """Mesh addresses of every stencil as sums of one part per direction."""
        nx, ny, nz = self.shape
        floor = torch.floor(x)
        size = torch.tensor(self.shape, device=x.device)
        first = (floor.long() - (self.order // 2 - 1)) % size
        # Neighbouring atoms touch the same memory when they come one after the other.
        line = ((channel * nx + first[:, 0]) * ny + first[:, 1]) * nz
        self._sorting = (line + first[:, 2]).argsort()
        self._offset = (x - floor)[self._sorting]
        first, channel = first[self._sorting], channel[self._sorting]
        tap = torch.arange(self.order, device=x.device)
        plane = channel[:, None] * nx + (first[:, :1] + tap) % nx
        column = (first[:, 1:2] + tap) % ny
        # Gathering reads p neighbours at once from a mesh continued by p − 1 points along z.
        self._read_x = plane * (ny * (nz + self.order - 1))
        self._read_y = column * (nz + self.order - 1) + first[:, 2:]
        # Spreading adds two neighbours at once, as one complex number; atoms that start at an odd
        # point use a second mesh, displaced by one.
        odd = first[:, 2:] % 2
        pairs = (first[:, 2:] // 2 + tap[: self.order // 2]) % (nz // 2)
        self._write_x = (plane + odd * (self.n_channels * nx)) * (ny * nz // 2)
        self._write_yz = ((column * (nz // 2))[:, :, None] + pairs[:, None]).flatten(1)

    def weights(self, derivatives: int) -> Tensor:
        """Splines and derivatives along x, y, z: (3, N, derivatives + 1, p), in sorted order."""
        if derivatives not in self._weights:
            values = spline_weights(self._offset, self.order, derivatives)
            self._weights[derivatives] = values.permute(2, 1, 0, 3).contiguous()
        return self._weights[derivatives]

    def spread(self, values: Tensor, derivatives: int) -> Tensor:
        """Without gradient: (N, T) → (channels, nx, ny, row)."""
        nx, ny, nz = self.shape
        p = self.order
        values = values.index_select(0, self._sorting)
        along_z = [values[:, columns, None] for columns in _columns(derivatives)]
        size = 2 * self.n_channels * nx * ny * nz // 2
        pairs = torch.zeros(size, dtype=values.dtype.to_complex(), device=values.device)
        planes = values.new_empty(min(_CHUNK, len(values)), derivatives + 1, p, p)
        taps = values.new_empty(len(planes), p, p * p)
        for start in range(0, len(values), _CHUNK):
            some = slice(start, start + _CHUNK)
            wx, wy, wz = self.weights(derivatives)[:, some, :, :, None].unbind(0)
            on_z = wz.squeeze(-1)
            lines = along_z[0][some] * on_z[:, :1]
            for n in range(1, derivatives + 1):
                lines[:, : along_z[n].shape[1]].addcmul_(along_z[n][some], on_z[:, n : n + 1])
            plane, tap = planes[: len(lines)], taps[: len(lines)]
            for line, (nth_x, nth_y) in enumerate(_pairs(derivatives)):
                if nth_y == 0:
                    torch.mul(wy[:, 0], lines[:, line, None], out=plane[:, nth_x])
                else:
                    plane[:, nth_x].addcmul_(wy[:, nth_y], lines[:, line, None])
            torch.mul(wx[:, 0], plane[:, :1].flatten(2), out=tap)
            for n in range(1, derivatives + 1):
                tap.addcmul_(wx[:, n], plane[:, n : n + 1].flatten(2))
            address = self._write_x[some, :, None] + self._write_yz[some, None]
            pairs.scatter_add_(0, address.view(-1), torch.view_as_complex(tap.view(-1, 2)))
        even, odd = torch.view_as_real(pairs).view(2, self.n_channels, nx, ny, nz)
        even[..., 1:] += odd[..., :-1]
        even[..., 0] += odd[..., -1]
        return even

    def gather(self, mesh: Tensor, derivatives: int) -> Tensor:
        """Without gradient: (channels, nx, ny, row) → (N, T)."""
        p, m, n_atoms = self.order, derivatives + 1, len(self._sorting)
        nz = self.shape[2]
        tail = torch.arange(nz, nz + p - 1, device=mesh.device) % nz
        continued = torch.cat([mesh, mesh[..., tail]], dim=-1).view(-1)
        windows = continued.as_strided((continued.numel() - p + 1, p), (1, 1))
        wx, wy, wz = self.weights(derivatives)
        wz = wz.transpose(1, 2)
        cube = mesh.new_empty(n_atoms, m * m, m)
        taps = mesh.new_empty(min(_CHUNK, n_atoms) * p * p, p)
        for start in range(0, n_atoms, _CHUNK):
            some = slice(start, start + _CHUNK)
            rows = (self._read_x[some, :, None] + self._read_y[some, None]).view(-1)
            block = torch.index_select(windows, 0, rows, out=taps[: len(rows)])
            planes = wx[some] @ block.view(-1, p, p * p)
            lines = wy[some, None] @ planes.view(-1, m, p, p)
            torch.bmm(lines.view(-1, m * m, p), wz[some], out=cube[some])
        out = mesh.new_empty(n_atoms, len(derivative_terms(derivatives)))
        return out.index_copy_(0, self._sorting, cube.flatten(1)[:, _cube_index(derivatives)])

    def along(self, values: Tensor, higher: Tensor, derivatives: int) -> Tensor:
        """Σ_t values_t ∂higher_t/∂x: (N, T), (N, T') → (N, 3)."""
        raised = higher.index_select(1, _raised_columns(derivatives, higher.device))
        return (values[:, :, None] * raised.view(*values.shape, 3)).sum(1)


@lru_cache(maxsize=8)
def _pairs(order: int) -> tuple[tuple[int, int], ...]:
    """Derivatives along x and y up to a total order, a prefix of those of the next order."""
    return tuple((a, b) for a, b, c in derivative_terms(order) if c == 0)


@lru_cache(maxsize=8)
def _columns(order: int) -> list[list[int]]:
    """For every n, which terms have the n-th derivative along z, ordered as :func:`_pairs`."""
    terms = derivative_terms(order)
    return [[terms.index((a, b, n)) for a, b in _pairs(order - n)] for n in range(order + 1)]


@lru_cache(maxsize=8)
def _cube_index(order: int) -> list[int]:
    """Where the terms are in the cube of all (a, b, c) with each index up to ``order``."""
    m = order + 1
    return [(a * m + b) * m + c for a, b, c in derivative_terms(order)]


def spread(values: Tensor, x: Tensor, stencil: Stencil, derivatives: int) -> Tensor:
    """ρ_g = Σ_i,t P_i,t D^t W(g − x_i): (N, T) → (channels, nx, ny, row); differentiable."""
    return _Spread.apply(values, x, stencil, derivatives)


def gather(mesh: Tensor, x: Tensor, stencil: Stencil, derivatives: int) -> Tensor:
    """V_i,t = Σ_g φ_g D^t W(g − x_i): (channels, nx, ny, row) → (N, T); differentiable."""
    return _Gather.apply(mesh, x, stencil, derivatives)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, stencil: Stencil, derivatives: int) -> Tensor:
        ctx.save_for_backward(values, x)
        ctx.stencil, ctx.derivatives = stencil, derivatives
        return stencil.spread(values, derivatives)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, x = ctx.saved_tensors
        n = ctx.derivatives
        if not ctx.needs_input_grad[1]:
            return gather(gradient, x, ctx.stencil, n), None, None, None
        higher = gather(gradient, x, ctx.stencil, n + 1)
        return higher[:, : values.shape[1]], _along(values, higher, ctx.stencil, n), None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mesh: Tensor, x: Tensor, stencil: Stencil, derivatives: int) -> Tensor:
        ctx.save_for_backward(mesh, x)
        ctx.stencil, ctx.derivatives = stencil, derivatives
        return stencil.gather(mesh, derivatives)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        mesh, x = ctx.saved_tensors
        n, on_mesh, on_x = ctx.derivatives, None, None
        if ctx.needs_input_grad[0]:
            on_mesh = spread(gradient, x, ctx.stencil, n)
        if ctx.needs_input_grad[1]:
            on_x = _along(gradient, gather(mesh, x, ctx.stencil, n + 1), ctx.stencil, n)
        return on_mesh, on_x, None, None


def _along(values: Tensor, higher: Tensor, stencil: Stencil, order: int) -> Tensor:
    """Σ_t values_t ∂higher_t/∂x: (N, T), (N, T') → (N, 3)."""
    if torch.is_grad_enabled() and (values.requires_grad or higher.requires_grad):
        return Stencil.along(stencil, values, higher, order)  # by operations that have a graph
    return stencil.along(values, higher, order)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _raised_columns(order: int, device: torch.device) -> Tensor:
    return torch.tensor(raised_terms(order), device=device).flatten()


def even_size(at_least: float) -> int:
    """The next even number of mesh points."""
    return max(2, 2 * math.ceil(0.5 * at_least - 1e-9))


def good_size(at_least: float) -> int:
    """The next even number of mesh points that a fast Fourier transform likes."""
    return _good_size(even_size(at_least))


@lru_cache(maxsize=1024)
def _good_size(n: int) -> int:
    # One factor 2, odd powers below 2n, and as many more factors 2 as n needs.
    odd = [1]
    for prime in (3, 5, 7):
        odd = [m * prime**k for m in odd for k in range(int(math.log(n / m, prime)) + 2)]
    return min(m << max(1, (-(-n // m) - 1).bit_length()) for m in odd)
