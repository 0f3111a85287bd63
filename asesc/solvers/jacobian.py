"""Exact products with a Jacobian, without building it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor


class Jacobian:
    """A = ∂r/∂x at one point, as products A v and Aᵀ v by automatic differentiation.

    One graph of one residual is kept. A product with Aᵀ is one backward pass through it; one with
    A a backward pass through that backward pass, at the cost of about two evaluations of r. Any
    residual that can be differentiated twice will do.

    Parameters
    ----------
    residual : callable
        r(x).
    x : Tensor
        Where to linearise; its own graph is ignored.
    """

    def __init__(self, residual: Callable[[Tensor], Tensor], x: Tensor) -> None:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._residual = residual(self._x)

    @property
    def value(self) -> Tensor:
        """r at the point, without graph."""
        return self._residual.detach()

    @cached_property
    def _pullback(self) -> tuple[Tensor, Tensor]:
        """u and Aᵀu as a graph in u: linear, so that its derivative in u applies A."""
        with torch.enable_grad():
            seed = torch.zeros_like(self._residual).requires_grad_()
            (image,) = torch.autograd.grad(self._residual, self._x, seed, create_graph=True)
        return seed, image

    def apply(self, vector: Tensor) -> Tensor:
        """A v, shaped like x; carries no graph."""
        seed, image = self._pullback
        return torch.autograd.grad(image, seed, vector, retain_graph=True)[0]

    def apply_transposed(self, vector: Tensor) -> Tensor:
        """Aᵀ v, shaped like x; carries no graph."""
        return torch.autograd.grad(self._residual, self._x, vector, retain_graph=True)[0]
