"""The two loops of :mod:`~asesc.electrostatics.stencil`, compiled for a processor by numba.

On a CPU tensor operations spend most of their time moving the p³ weights of an atom through memory;
compiled loops keep them in registers and are several times as fast. numba is optional
(``pip install asesc[fast]``); without it, and on a GPU, the tensor operations do the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asesc.electrostatics.stencil import Stencil, derivative_terms

Loop = Callable[..., None]


class CompiledStencil(Stencil):
    """A stencil on a processor; the same numbers as :class:`~.stencil.Stencil` to rounding."""

    def _index(self, first: Tensor, channel: Tensor) -> None:
        _, ny, nz = self.shape
        self._first = torch.cat([first, channel[:, None]], dim=1).numpy()
        self._line = nz + self.order - 1
        self._size = np.array(self.shape)
        self._strides = np.array([ny * self._line, self._line])

    def spread(self, values: Tensor, derivatives: int) -> Tensor:
        nx, ny, nz = self.shape
        mesh = values.new_zeros(self.n_channels, nx, ny, self._line)
        values = values.index_select(0, self.sorting)
        self._run(0, mesh, values, derivatives)
        folded = mesh[..., :nz].contiguous()
        for start in range(nz, self._line, nz):
            rest = mesh[..., start : start + nz]
            folded[..., : rest.shape[-1]] += rest
        return folded

    def gather(self, mesh: Tensor, derivatives: int) -> Tensor:
        tail = torch.arange(self.shape[2], self._line) % self.shape[2]
        continued = torch.cat([mesh, mesh[..., tail]], dim=-1)
        values = mesh.new_empty(len(self.sorting), len(derivative_terms(derivatives)))
        self._run(1, continued, values, derivatives)
        return torch.empty_like(values).index_copy_(0, self.sorting, values)

    def _run(self, which: int, mesh: Tensor, values: Tensor, derivatives: int) -> None:
        compiled_loops(self.order, derivatives)[which](
            mesh.view(-1).numpy(),
            self._size,
            self._strides,
            self._first,
            self.weights(derivatives).numpy(),
            values.numpy(),
            _where_terms(derivatives),
        )


def stencil_type(device: torch.device) -> type[Stencil]:
    """The fastest implementation that there is on a device."""
    return CompiledStencil if device.type == "cpu" and is_available() else Stencil


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


@lru_cache(maxsize=16)
def compiled_loops(order: int, derivatives: int) -> tuple[Loop, Loop]:
    """``spread`` and ``gather`` for one spline order, compiled on first use and kept on disk.

    Both take the mesh as one array continued by p − 1 points along z, its numbers of points and
    strides, the first point and channel of every atom (N, 4), weights (3, N, derivatives + 1, p),
    the terms of every atom (N, T), and where each term is, (derivatives + 1)³.
    """
    import numba

    m, p = derivatives + 1, order
    # Sums may be reassociated, so that the processor adds several numbers at once.
    options: Any = {"fastmath": {"contract", "reassoc", "nsz"}, "cache": True, "nogil": True}

    @numba.njit(**options)
    def spread(mesh, size, strides, first, weights, values, column):  # type: ignore[no-untyped-def]
        line, row = np.zeros((m, m, p)), np.zeros((m, p))
        wy, start = np.zeros((p, m)), np.zeros(p, np.int64)
        for i in range(first.shape[0]):
            for a in range(m):
                for b in range(m - a):
                    for z in range(p):
                        total = 0.0
                        for c in range(m - a - b):
                            total += values[i, column[a, b, c]] * weights[2, i, c, z]
                        line[a, b, z] = total
            for y in range(p):
                start[y] = ((first[i, 1] + y) % size[1]) * strides[1] + first[i, 2]
                for b in range(m):
                    wy[y, b] = weights[1, i, b, y]
            for x in range(p):
                plane = (first[i, 3] * size[0] + (first[i, 0] + x) % size[0]) * strides[0]
                for b in range(m):
                    for z in range(p):
                        total = 0.0
                        for a in range(m - b):
                            total += weights[0, i, a, x] * line[a, b, z]
                        row[b, z] = total
                for y in range(p):
                    at = plane + start[y]
                    for z in range(p):
                        total = mesh[at + z]
                        for b in range(m):
                            total += wy[y, b] * row[b, z]
                        mesh[at + z] = total

    @numba.njit(**options)
    def gather(mesh, size, strides, first, weights, values, column):  # type: ignore[no-untyped-def]
        line, row = np.zeros((m, m, p)), np.zeros((m, p))
        wy, start = np.zeros((p, m)), np.zeros(p, np.int64)
        for i in range(first.shape[0]):
            line[:] = 0.0
            for y in range(p):
                start[y] = ((first[i, 1] + y) % size[1]) * strides[1] + first[i, 2]
                for b in range(m):
                    wy[y, b] = weights[1, i, b, y]
            for x in range(p):
                plane = (first[i, 3] * size[0] + (first[i, 0] + x) % size[0]) * strides[0]
                row[:] = 0.0
                for y in range(p):
                    at = plane + start[y]
                    for b in range(m):
                        for z in range(p):
                            row[b, z] += mesh[at + z] * wy[y, b]
                for a in range(m):
                    for b in range(m - a):
                        for z in range(p):
                            line[a, b, z] += weights[0, i, a, x] * row[b, z]
            for a in range(m):
                for b in range(m - a):
                    for c in range(m - a - b):
                        total = 0.0
                        for z in range(p):
                            total += line[a, b, z] * weights[2, i, c, z]
                        values[i, column[a, b, c]] = total

    return spread, gather


@lru_cache(maxsize=8)
def _where_terms(derivatives: int) -> NDArray[np.int64]:
    """Index of every term (a, b, c), (derivatives + 1)³; −1 where there is none."""
    column = np.full((derivatives + 1,) * 3, -1, dtype=np.int64)
    for index, term in enumerate(derivative_terms(derivatives)):
        column[term] = index
    return column
