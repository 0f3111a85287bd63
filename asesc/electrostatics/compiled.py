"""The two loops of :mod:`~asesc.electrostatics.stencil`, compiled for a processor by numba.

On a CPU tensor operations spend most of their time moving the p³ weights of an atom through memory;
compiled loops keep them in registers and are several times as fast. numba is optional
(``pip install asesc[fast]``); without it, and on a GPU, the tensor operations do the same work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        self._line = nz + _lanes(self.order) - 1
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


def _lanes(order: int) -> int:
    """Points along z that are handled together: the order, in whole groups of four."""
    return 4 * math.ceil(order / 4)


@lru_cache(maxsize=16)
def compiled_loops(order: int, derivatives: int) -> tuple[Loop, Loop]:
    """``spread`` and ``gather`` for one spline order, compiled on first use and kept on disk.

    Both take the mesh as one array continued along z, its numbers of points and strides, the first
    point and channel of every atom (N, 4), weights (3, N, derivatives + 1, p), the terms of every
    atom (N, T), and where each term is, (derivatives + 1)³.

    Four points along z are loaded, changed and stored together, and indices are unsigned: only
    then can the compiler see that they are neighbours and use vector instructions, which makes
    either loop about twice as fast.
    """
    import numba

    m, p, lanes = derivatives + 1, order, _lanes(order)
    one, two, three = (np.uint64(n) for n in (1, 2, 3))
    # Sums may be reassociated, so that the processor adds several numbers at once.
    options: Any = {"fastmath": {"contract", "reassoc", "nsz"}, "cache": True, "nogil": True}

    def spread(mesh, size, strides, first, weights, values, column):  # type: ignore[no-untyped-def]
        line, row = np.zeros((m, m, lanes)), np.zeros((m, lanes))
        start = np.zeros(p, np.uint64)
        for i in range(first.shape[0]):
            for a in range(m):
                for b in range(m - a):
                    for z in range(p):
                        total = 0.0
                        for c in range(m - a - b):
                            total += values[i, column[a, b, c]] * weights[2, i, c, z]
                        line[a, b, z] = total
            for y in range(p):
                start[y] = np.uint64(((first[i, 1] + y) % size[1]) * strides[1] + first[i, 2])
            for x in range(p):
                plane = np.uint64(
                    (first[i, 3] * size[0] + (first[i, 0] + x) % size[0]) * strides[0]
                )
                for b in range(m):
                    for z in range(0, lanes, 4):
                        s0 = s1 = s2 = s3 = 0.0
                        for a in range(m - b):
                            w = weights[0, i, a, x]
                            s0 += w * line[a, b, z]
                            s1 += w * line[a, b, z + 1]
                            s2 += w * line[a, b, z + 2]
                            s3 += w * line[a, b, z + 3]
                        row[b, z], row[b, z + 1], row[b, z + 2], row[b, z + 3] = s0, s1, s2, s3
                for y in range(p):
                    for z in range(0, lanes, 4):
                        at = plane + start[y] + np.uint64(z)
                        s0, s1, s2, s3 = mesh[at], mesh[at + one], mesh[at + two], mesh[at + three]
                        for b in range(m):
                            w = weights[1, i, b, y]
                            s0 += w * row[b, z]
                            s1 += w * row[b, z + 1]
                            s2 += w * row[b, z + 2]
                            s3 += w * row[b, z + 3]
                        mesh[at], mesh[at + one], mesh[at + two], mesh[at + three] = s0, s1, s2, s3

    def gather(mesh, size, strides, first, weights, values, column):  # type: ignore[no-untyped-def]
        line, row = np.zeros((m, m, lanes)), np.zeros((m, lanes))
        start = np.zeros(p, np.uint64)
        for i in range(first.shape[0]):
            line[:] = 0.0
            for y in range(p):
                start[y] = np.uint64(((first[i, 1] + y) % size[1]) * strides[1] + first[i, 2])
            for x in range(p):
                plane = np.uint64(
                    (first[i, 3] * size[0] + (first[i, 0] + x) % size[0]) * strides[0]
                )
                for z in range(0, lanes, 4):
                    for b in range(m):
                        s0 = s1 = s2 = s3 = 0.0
                        for y in range(p):
                            at, w = plane + start[y] + np.uint64(z), weights[1, i, b, y]
                            s0 += w * mesh[at]
                            s1 += w * mesh[at + one]
                            s2 += w * mesh[at + two]
                            s3 += w * mesh[at + three]
                        row[b, z], row[b, z + 1], row[b, z + 2], row[b, z + 3] = s0, s1, s2, s3
                for a in range(m):
                    w = weights[0, i, a, x]
                    for b in range(m - a):
                        for z in range(lanes):
                            line[a, b, z] += w * row[b, z]
            for a in range(m):
                for b in range(m - a):
                    for c in range(m - a - b):
                        total = 0.0
                        for z in range(p):
                            total += line[a, b, z] * weights[2, i, c, z]
                        values[i, column[a, b, c]] = total

    loops = []
    for loop in (spread, gather):
        # Files on disk are named after this. Under one name, processes that compile different
        # orders at the same time may be handed each other's code.
        loop.__qualname__ = f"{loop.__name__}_{p}_{m}"
        loops.append(numba.njit(**options)(loop))
    with _several_lanes():
        for compiled in loops:
            compiled.compile(_signature())
    return loops[0], loops[1]


def _signature() -> tuple[Any, ...]:
    """Of both loops; all arrays are contiguous."""
    from numba import float64, int64

    mesh, size, strides = float64[::1], int64[::1], int64[::1]
    first, weights, values = int64[:, ::1], float64[:, :, :, ::1], float64[:, ::1]
    return mesh, size, strides, first, weights, values, int64[:, :, ::1]


@contextmanager
def _several_lanes() -> Iterator[None]:
    """Let the compiler join neighbouring operations, which numba leaves out by default."""
    from numba import config

    before, config.SLP_VECTORIZE = config.SLP_VECTORIZE, 1
    try:
        yield
    finally:
        config.SLP_VECTORIZE = before


@lru_cache(maxsize=8)
def _where_terms(derivatives: int) -> NDArray[np.int64]:
    """Index of every term (a, b, c), (derivatives + 1)³; −1 where there is none."""
    column = np.full((derivatives + 1,) * 3, -1, dtype=np.int64)
    for index, term in enumerate(derivative_terms(derivatives)):
        column[term] = index
    return column
