"""Convex functions whose shape a network chooses: sums of soft ridges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SoftRidges:
    """One convex function of a few coordinates per atom or edge,

        f(x) = Σ_k a_k [S(z_k) − S(c_k) − S'(c_k) b_k0 x_0],   z_k = Σ_d b_kd x_d + c_k,

    with S(z) = ln(1 + eᶻ). S is convex and increases, a_k ≥ 0, and every z_k is convex in the
    variables behind x, because x_0 is a variable itself and the other coordinates are convex
    functions of the variables with slopes b_kd ≥ 0. A convex increasing function of a convex one
    is convex, so are sums with positive weights, and the term linear in x_0 changes nothing:
    f is convex, smooth to every order, and its value and its slope along x_0 vanish at x = 0.

    This is a network of one hidden layer that is convex in its inputs, with weights made by another
    network from the environment. Each ridge turns the slope of f by a_k b_k0 over a width 4/b_k0,
    so that derivative discontinuities (gaps) can be approached; far from all ridges f is linear.

    Parameters
    ----------
    amplitude : Tensor, (n, K)
        a_k ≥ 0, in the unit of f.
    slopes : Tensor, (n, K, D)
        b_kd; any sign for d = 0, not negative for d > 0.
    offset : Tensor, (n, K)
        c_k.

    References
    ----------
    B. Amos, L. Xu, J. Z. Kolter, ICML 2017, arXiv:1609.07152, proposition 1 (input convexity).
    """

    amplitude: Tensor
    slopes: Tensor
    offset: Tensor

    def scaled(self, factor: float) -> Self:
        """``factor`` · f."""
        return replace(self, amplitude=factor * self.amplitude)

    def value(self, x: Tensor) -> Tensor:
        """f(x): (n, D) → (n,)."""
        linear = torch.sigmoid(self.offset) * self.slopes[..., 0] * x[:, None, 0]
        bend = _softplus(self._argument(x)) - _softplus(self.offset) - linear
        return (self.amplitude * bend).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        """∂f/∂x_d: (n, D) → (n, D)."""
        weight = self.amplitude * torch.sigmoid(self._argument(x))
        at_x = (weight[..., None] * self.slopes).sum(1)
        at_zero = (self.amplitude * torch.sigmoid(self.offset) * self.slopes[..., 0]).sum(-1)
        return torch.cat([at_x[:, :1] - at_zero[:, None], at_x[:, 1:]], dim=-1)

    def curvature(self, x: Tensor) -> Tensor:
        """∂²f/∂x_d∂x_e: (n, D) → (n, D, D), positive semidefinite."""
        z = self._argument(x)
        weight = self.amplitude * torch.sigmoid(z) * torch.sigmoid(-z)
        weighted = weight[..., None] * self.slopes
        return weighted.transpose(1, 2) @ self.slopes

    def _argument(self, x: Tensor) -> Tensor:
        return (self.slopes * x[:, None]).sum(-1) + self.offset


def _softplus(z: Tensor) -> Tensor:
    """ln(1 + eᶻ) without the cut of ``torch.nn.functional.softplus``, whose error jumps there."""
    return -F.logsigmoid(-z)
