"""The loops of :mod:`~asesc.electrostatics.compiled`; imported only where numba is installed.

What is done at one plane of a stencil is written as vector instructions, eight points along z at a
time: numba has none, and of what its compiler finds by itself half is scalar. Where a processor has
shorter vectors the compiler divides them, and where it has no fused multiply-add, that too.

Functions on disk are known by this file and their names: everything that they are made of is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import float64, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

Loop = Callable[..., None]

# Sums may be reassociated, so that the processor adds several numbers at once.
_FLAGS = ("contract", "reassoc", "nsz")
_OPTIONS: Any = {"fastmath": set(_FLAGS), "error_model": "numpy", "cache": True, "nogil": True}

_MESH, _INDEX, _VALUES = float64[::1], int64[::1], float64[:, ::1]
_SIGNATURE = (
    _MESH,
    _INDEX,
    _INDEX,
    int64[:, ::1],
    float64[:, :, :, ::1],
    _VALUES,
    int64[:, :, ::1],
)


def vectors(order: int) -> list[tuple[int, int]]:
    """First point and length of the vectors, of 8 or 4 numbers, that hold ``order`` of them.

    >>> vectors(6), vectors(10)
    ([(0, 8)], [(0, 8), (8, 4)])
    """
    return [(z, 8 if order - z > 4 else 4) for z in range(0, order, 8)]


def n_lanes(order: int) -> int:
    """Numbers in all vectors of a line."""
    first, length = vectors(order)[-1]
    return first + length


class _Plane:
    """Writes the instructions of one plane: loads, stores, and a scalar times a vector."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder, self.args = builder, args
        self.data = [
            cgutils.create_struct_proxy(kind)(context, builder, value=value).data
            if isinstance(kind, types.Array)
            else None
            for kind, value in zip(signature.args, args, strict=True)
        ]

    def address(self, array: int, index: Any, offset: int) -> Any:
        """Of element ``index + offset``."""
        at = self.builder.add(index, ir.IntType(64)(offset))
        return self.builder.gep(self.data[array], [at])

    def number(self, array: int, index: Any, offset: int) -> Any:
        return self.builder.load(self.address(array, index, offset))

    def vector(self, array: int, index: Any, offset: int, lanes: int) -> Any:
        """Address of a vector, which may begin at any number."""
        kind = ir.VectorType(ir.DoubleType(), lanes)
        return self.builder.bitcast(self.address(array, index, offset), kind.as_pointer())

    def load(self, array: int, index: Any, offset: int, lanes: int) -> Any:
        return self.builder.load(self.vector(array, index, offset, lanes), align=8)

    def store(self, value: Any, array: int, index: Any, offset: int) -> None:
        at = self.vector(array, index, offset, value.type.count)
        self.builder.store(value, at, align=8)

    def scaled(self, factor: Any, vector: Any, plus: Any = None) -> Any:
        """factor · vector + plus, where the factor is a number."""
        kind, nothing = vector.type, ir.Constant(vector.type, ir.Undefined)
        first = self.builder.insert_element(nothing, factor, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        everywhere = self.builder.shuffle_vector(first, nothing, zeros)
        product = self.builder.fmul(everywhere, vector, flags=_FLAGS)
        return product if plus is None else self.builder.fadd(product, plus, flags=_FLAGS)


@intrinsic(prefer_literal=True)
def _spread_plane(typing, order, m, mesh, plane, start, weights, x, y, line):  # type: ignore[no-untyped-def]
    """Add one plane of a stencil to the mesh: p rows, at ``plane + start[0 … p − 1]``.

    ``x`` and ``y`` are where the weights of this plane and of the first row are, ``line`` (m, m,
    lanes) the values along z for every number of derivatives along x and y.
    """
    p, n = order.literal_value, m.literal_value
    lanes = n_lanes(p)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit, zero = _Plane(context, builder, signature, args), ir.IntType(64)(0)
        rows: dict[tuple[int, int], Any] = {}
        for first, length in vectors(p):
            for b in range(n):
                row = None
                for a in range(n - b):
                    part = emit.load(8, zero, (a * n + b) * lanes + first, length)
                    row = emit.scaled(emit.number(5, args[6], a * lanes), part, row)
                rows[b, first] = row
        for tap in range(p):
            at = builder.add(args[3], emit.number(4, zero, tap))
            factors = [emit.number(5, args[7], b * lanes + tap) for b in range(n)]
            for first, length in vectors(p):
                value = emit.load(2, at, first, length)
                for b in range(n):
                    value = emit.scaled(factors[b], rows[b, first], value)
                emit.store(value, 2, at, first)
        return context.get_dummy_value()

    return types.void(order, m, mesh, plane, start, weights, x, y, line), generate


@intrinsic(prefer_literal=True)
def _gather_plane(typing, order, m, mesh, plane, start, weights, x, y, line):  # type: ignore[no-untyped-def]
    """Add what one plane of the mesh gives to ``line``; arguments as of :func:`_spread_plane`."""
    p, n = order.literal_value, m.literal_value
    lanes = n_lanes(p)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit, zero = _Plane(context, builder, signature, args), ir.IntType(64)(0)
        rows: dict[tuple[int, int], Any] = {}
        for tap in range(p):
            at = builder.add(args[3], emit.number(4, zero, tap))
            factors = [emit.number(5, args[7], b * lanes + tap) for b in range(n)]
            for first, length in vectors(p):
                value = emit.load(2, at, first, length)
                for b in range(n):
                    rows[b, first] = emit.scaled(factors[b], value, rows.get((b, first)))
        for a in range(n):
            factor = emit.number(5, args[6], a * lanes)
            for b in range(n - a):
                for first, length in vectors(p):
                    where = (a * n + b) * lanes + first
                    total = emit.load(8, zero, where, length)
                    emit.store(emit.scaled(factor, rows[b, first], total), 8, zero, where)
        return context.get_dummy_value()

    return types.void(order, m, mesh, plane, start, weights, x, y, line), generate


@intrinsic(prefer_literal=True)
def _splines(typing, order, m, table, u, weights, at):  # type: ignore[no-untyped-def]
    """Polynomials in ``u`` with coefficients ``table`` (m, p, lanes): m lines of ``weights``."""
    p, n = order.literal_value, m.literal_value
    lanes = n_lanes(p)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit, zero = _Plane(context, builder, signature, args), ir.IntType(64)(0)
        for derivative in range(n):
            for first, length in vectors(p):
                place = derivative * p * lanes + first
                value = emit.load(2, zero, place + (p - 1 - derivative) * lanes, length)
                for power in range(p - 2 - derivative, -1, -1):
                    coefficient = emit.load(2, zero, place + power * lanes, length)
                    value = emit.scaled(args[3], value, coefficient)
                emit.store(value, 4, args[5], derivative * lanes + first)
        return context.get_dummy_value()

    return types.void(order, m, table, u, weights, at), generate


@numba.njit(**_OPTIONS)
def _first_row(first, size, stride, start):  # type: ignore[no-untyped-def]
    """Where the p rows of a plane begin."""
    row = first[1]
    for tap in range(len(start)):
        start[tap] = row * stride + first[2]
        row += 1
        if row == size:
            row = 0


def spread_loop(order: int, m: int) -> Loop:
    """Add every atom to the mesh."""
    p, lanes = order, n_lanes(order)

    def spread(mesh, size, strides, atoms, weights, values, column):  # type: ignore[no-untyped-def]
        line, start = np.zeros(m * m * lanes), np.zeros(p, np.int64)
        flat, stride = weights.reshape(-1), weights.shape[2] * lanes
        for i in range(len(atoms)):
            term = values[atoms[i, 4]]
            for a in range(m):
                for b in range(m - a):
                    for z in range(lanes):
                        total = 0.0
                        for c in range(m - a - b):
                            total += term[column[a, b, c]] * weights[i, 2, c, z]
                        line[(a * m + b) * lanes + z] = total
            _first_row(atoms[i], size[1], strides[1], start)
            plane, x = atoms[i, 0], 3 * i * stride
            for tap in range(p):
                at = (atoms[i, 3] * size[0] + plane) * strides[0]
                _spread_plane(p, m, mesh, at, start, flat, x + tap, x + stride, line)
                plane += 1
                if plane == size[0]:
                    plane = 0

    return _compiled(spread, order, m, _SIGNATURE)


def gather_loop(order: int, m: int) -> Loop:
    """The mesh as every atom sees it."""
    p, lanes = order, n_lanes(order)

    def gather(mesh, size, strides, atoms, weights, values, column):  # type: ignore[no-untyped-def]
        line, start = np.zeros(m * m * lanes), np.zeros(p, np.int64)
        flat, stride = weights.reshape(-1), weights.shape[2] * lanes
        for i in range(len(atoms)):
            line[:] = 0.0
            _first_row(atoms[i], size[1], strides[1], start)
            plane, x = atoms[i, 0], 3 * i * stride
            for tap in range(p):
                at = (atoms[i, 3] * size[0] + plane) * strides[0]
                _gather_plane(p, m, mesh, at, start, flat, x + tap, x + stride, line)
                plane += 1
                if plane == size[0]:
                    plane = 0
            for a in range(m):
                for b in range(m - a):
                    for c in range(m - a - b):
                        total = 0.0
                        for z in range(lanes):
                            total += line[(a * m + b) * lanes + z] * weights[i, 2, c, z]
                        values[atoms[i, 4], column[a, b, c]] = total

    return _compiled(gather, order, m, _SIGNATURE)


def weights_loop(order: int, m: int) -> Loop:
    """Splines and m − 1 derivatives of every atom and direction, (N, 3, m, lanes)."""
    p, lanes = order, n_lanes(order)

    def weights(x, atoms, table, out):  # type: ignore[no-untyped-def]
        flat_table, flat = table.reshape(-1), out.reshape(-1)
        for i in range(len(atoms)):
            for d in range(3):
                u = x[atoms[i, 4], d]
                u -= np.floor(u) + 0.5
                _splines(p, m, flat_table, u, flat, (3 * i + d) * m * lanes)

    signature = (_VALUES, int64[:, ::1], float64[:, :, ::1], float64[:, :, :, ::1])
    return _compiled(weights, order, m, signature)


@numba.njit([(_VALUES, _INDEX, _INDEX, int64, int64[:, ::1], _INDEX)], **_OPTIONS)
def locate(x, channel, size, before, atoms, key):  # type: ignore[no-untyped-def]
    """First point, channel and number of every atom, and keys that sort them along the mesh."""
    for i in range(len(x)):
        line = channel[i]
        for d in range(3):
            first = (int64(np.floor(x[i, d])) - before) % size[d]
            atoms[i, d] = first
            line = line * size[d] + first
        atoms[i, 3], atoms[i, 4], key[i] = channel[i], i, line


@numba.njit([(_VALUES, _VALUES, int64[:, ::1], _VALUES)], **_OPTIONS)
def along(values, higher, raised, out):  # type: ignore[no-untyped-def]
    """Σ_t values_t higher_raised(t, d) of every atom."""
    for i in range(len(values)):
        for d in range(3):
            total = 0.0
            for t in range(len(raised)):
                total += values[i, t] * higher[i, raised[t, d]]
            out[i, d] = total


def _compiled(loop: Callable[..., None], order: int, m: int, signature: Any) -> Loop:
    # Files on disk are named after this. Under one name, processes that compile different orders
    # at the same time may be handed each other's code.
    loop.__qualname__ = f"{loop.__name__}_{order}_{m}"
    compiled = numba.njit(**_OPTIONS)(loop)
    compiled.compile(signature)
    return compiled
