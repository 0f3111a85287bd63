"""Minimise a smooth energy of every structure of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import IllPosedError, SCFError
from asesc.solvers.options import SCFOptions
from asesc.solvers.solution import Solution

if TYPE_CHECKING:
    from asesc.system import BlockLayout


def minimise(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    layout: BlockLayout,
    options: SCFOptions | None = None,
    hessian: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Solution]:
    """A minimum of energy(x) (B,) in x (N, M), without graph.

    ``hessian(x)`` gives padded blocks (B, n·M, n·M).
    """
    options = options or SCFOptions()
    shape = layout.shape

    def value_and_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            rows = layout.unpad(x.reshape(*shape, -1)).detach().requires_grad_()
            value = energy(rows)
            (gradient,) = torch.autograd.grad(value.sum(), rows)
        return value.detach(), layout.pad(gradient).flatten(1)

    def curvature(x: Tensor) -> Tensor:
        rows = layout.unpad(x.reshape(*shape, -1))
        if hessian is not None:
            return hessian(rows).detach()
        return _hessian_by_products(value_and_gradient, energy, layout, rows, x)

    x = layout.pad(start.detach()).flatten(1)
    value, gradient = value_and_gradient(x)
    history = [float(gradient.abs().max())]
    while history[-1] >= options.tolerance:
        if len(history) > options.max_maps:
            raise SCFError("the minimum was not found", history=history)
        values, vectors = torch.linalg.eigh(curvature(x))
        values = values.abs().clamp(min=1e-10)
        step = torch.einsum("bij,bj,bkj,bk->bi", vectors, 1 / values, vectors, gradient)
        length = torch.ones_like(value)
        slope = (step * gradient).sum(-1)
        for _ in range(40):
            trial = x - length[:, None] * step
            new, new_gradient = value_and_gradient(trial)
            slack = 1e-13 * (1 + value.abs())
            good = new <= value - 1e-4 * length * slope + slack
            if bool(good.all()):
                break
            length = torch.where(good, length, 0.5 * length)
        x, value, gradient = trial, new, new_gradient
        history.append(float(gradient.abs().max()))
        if not bool(torch.isfinite(value).all()) or float(x.abs().max()) > 1e8:
            raise IllPosedError("the energy has no minimum")
    rows = layout.unpad(x.reshape(*shape, -1))
    return rows, Solution("Newton", True, len(history), history[-1], tuple(history))


def _hessian_by_products(
    _unused: object,
    energy: Callable[[Tensor], Tensor],
    layout: BlockLayout,
    rows: Tensor,
    x: Tensor,
) -> Tensor:
    """One product per column."""
    with torch.enable_grad():
        point = rows.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(point).sum(), point, create_graph=True)
    columns = []
    for k in range(x.shape[1]):
        unit = torch.zeros_like(x)
        unit[:, k] = 1
        direction = layout.unpad(unit.reshape(*layout.shape, -1))
        (column,) = torch.autograd.grad(slope, point, direction, retain_graph=True)
        columns.append(layout.pad(column).flatten(1))
    matrix = torch.stack(columns, dim=-1)
    padding = layout.pad(torch.ones_like(rows)).flatten(1) == 0
    return matrix + torch.diag_embed(padding.to(x.dtype))
