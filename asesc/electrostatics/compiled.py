"""Stencils on a processor, by loops that numba compiles.

On a CPU tensor operations spend most of their time moving the p³ weights of an atom through memory;
compiled loops keep them in registers and are several times as fast. numba is optional
(``pip install asesc[fast]``); without it, and on a GPU, the tensor operations do the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asesc.electrostatics.splines import spline_polynomials
from asesc.electrostatics.stencil import Stencil, derivative_terms, raised_terms

Loop = Callable[..., None]


class CompiledStencil(Stencil):
    """A stencil on a processor; the same numbers as :class:`~.stencil.Stencil` to rounding."""

    @property
    def row(self) -> int:
        """Rows end where the vectors of the last stencil end."""
        from asesc.electrostatics.stencil_loops import n_lanes

        return self.shape[2] + n_lanes(self.order) - 1

    def _locate(self, x: Tensor, channel: Tensor) -> None:
        from asesc.electrostatics.stencil_loops import locate

        self._size = np.array(self.shape)
        self._strides = np.array([self.shape[1] * self.row, self.row])
        self._x = x.contiguous().numpy()
        atoms, key = np.empty((len(x), 5), dtype=np.int64), np.empty(len(x), dtype=np.int64)
        locate(self._x, channel.numpy(), self._size, self.order // 2 - 1, atoms, key)
        # Neighbouring atoms touch the same memory when they come one after the other.
        self._atoms = atoms[key.argsort()]

    def weights(self, derivatives: int) -> Tensor:
        """Splines and derivatives along x, y, z: (N, 3, derivatives + 1, lanes), sorted."""
        if derivatives not in self._weights:
            table = _padded_polynomials(self.order, derivatives)
            shape = (len(self._x), 3, derivatives + 1, table.shape[-1])
            weights = torch.empty(shape, dtype=torch.float64)
            evaluate = compiled_loops(self.order, derivatives)[2]
            evaluate(self._x, self._atoms, table, weights.numpy())
            self._weights[derivatives] = weights
        return self._weights[derivatives]

    def spread(self, values: Tensor, derivatives: int) -> Tensor:
        mesh = values.new_zeros(self.n_channels, *self.shape[:2], self.row)
        self._run(0, mesh, values.detach().contiguous(), derivatives)
        return mesh

    def gather(self, mesh: Tensor, derivatives: int) -> Tensor:
        values = mesh.new_empty(len(self._x), len(derivative_terms(derivatives)))
        self._run(1, mesh.detach().contiguous(), values, derivatives)
        return values

    def along(self, values: Tensor, higher: Tensor, derivatives: int) -> Tensor:
        from asesc.electrostatics.stencil_loops import along

        out = torch.empty(len(values), 3, dtype=values.dtype)
        raised = np.array(raised_terms(derivatives))
        tables = (table.detach().contiguous().numpy() for table in (values, higher))
        along(*tables, raised, out.numpy())
        return out

    def _run(self, which: int, mesh: Tensor, values: Tensor, derivatives: int) -> None:
        compiled_loops(self.order, derivatives)[which](
            mesh.view(-1).numpy(),
            self._size,
            self._strides,
            self._atoms,
            self.weights(derivatives).numpy(),
            values.numpy(),
            _where_terms(derivatives),
        )


def stencil_type(device: torch.device) -> type[Stencil]:
    """The fastest implementation that there is on a device."""
    return CompiledStencil if is_compiled(device) else Stencil


def is_compiled(device: torch.device) -> bool:
    """Whether the loops over a mesh are compiled for a device."""
    return device.type == "cpu" and is_available()


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


@lru_cache(maxsize=16)
def compiled_loops(order: int, derivatives: int) -> tuple[Loop, Loop, Loop]:
    """To spread, to gather, and the weights; compiled on first use and kept on disk.

    The first two take the mesh as one array, its numbers of points and strides, the first point,
    channel and number of every atom (N, 5), weights (N, 3, derivatives + 1, lanes), the terms of
    every atom (N, T), and where each term is, (derivatives + 1)³.
    """
    from asesc.electrostatics import stencil_loops

    makers = (stencil_loops.spread_loop, stencil_loops.gather_loop, stencil_loops.weights_loop)
    spread, gather, weights = (make(order, derivatives + 1) for make in makers)
    return spread, gather, weights


@lru_cache(maxsize=16)
def _padded_polynomials(order: int, derivatives: int) -> NDArray[np.float64]:
    """Coefficients of the splines, (derivatives + 1, p, lanes)."""
    from asesc.electrostatics.stencil_loops import n_lanes

    table = spline_polynomials(order, derivatives).numpy()
    return np.pad(table, ((0, 0), (0, 0), (0, n_lanes(order) - order)))


@lru_cache(maxsize=8)
def _where_terms(derivatives: int) -> NDArray[np.int64]:
    """Index of every term (a, b, c), (derivatives + 1)³; −1 where there is none."""
    column = np.full((derivatives + 1,) * 3, -1, dtype=np.int64)
    for index, term in enumerate(derivative_terms(derivatives)):
        column[term] = index
    return column
