"""Pair interaction of two Gaussian multipoles at any distance, including zero."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from asesc.density.harmonics import MONOMIALS, degree, n_components
from asesc.units import COULOMB

SERIES_TERMS = 18


def boys(argument: Tensor, order: int) -> Tensor:
    """Boys functions F_n(T) = ∫₀¹ t^(2n) exp(−T t²) dt for n = 0 … ``order``: (…) → (order + 1, …).

    Differentiable to any order through F_n' = −F_(n+1). Absolute error below 1e-14 for
    order ≤ 6: Taylor series and downward recursion below T = 1, upward recursion above.

    References
    ----------
    T. Helgaker, P. Jørgensen, J. Olsen, Molecular Electronic-Structure Theory (2000), §9.8.
    """
    return _Boys.apply(argument, order)


class _Boys(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, argument: Tensor, order: int) -> Tensor:
        values = evaluate_boys(argument, order + 1)
        ctx.save_for_backward(argument, values[1:])
        ctx.order = order
        return values[:-1].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        argument, higher = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative will be asked for
            higher = boys(argument, ctx.order + 1)[1:]
        return -(gradient * higher).sum(0), None


def evaluate_boys(argument: Tensor, order: int) -> Tensor:
    values = argument.new_empty((order + 1, *argument.shape))
    large = argument.clamp(min=1.0)
    decay = torch.exp(-large)
    values[0] = 0.5 * torch.sqrt(math.pi / large) * torch.erf(torch.sqrt(large))
    half_inverse = 0.5 / large
    for n in range(order):
        values[n + 1] = ((2 * n + 1) * values[n] - decay) * half_inverse
    near = argument < 1.0
    if bool(near.any()):
        values[:, near] = _boys_series(argument[near], order)
    return values


def _boys_series(argument: Tensor, order: int) -> Tensor:
    """F_n for T < 1: the highest order by its Taylor series, the others by downward recursion."""
    values = argument.new_empty((order + 1, *argument.shape))
    term, total = torch.ones_like(argument), torch.full_like(argument, 1 / (2 * order + 1))
    for k in range(1, SERIES_TERMS):
        term = -term * argument / k
        total = total + term / (2 * order + 2 * k + 1)
    values[order] = total
    decay = torch.exp(-argument)
    for n in range(order - 1, -1, -1):
        values[n] = (2 * argument * values[n + 1] + decay) / (2 * n + 1)
    return values


def pair_interaction(separation: Tensor, width2: Tensor, lmax: int) -> Tensor:
    """J between Gaussian multipoles a at r_a and b at r_b: (…, 3) → (…, M, M), V Å^−l/(e Å^l).

        J_lm,l'm' = k_e R_lm(∇_a) R_l'm'(∇_b) erf(r/√(2γ²))/r / [(2l−1)!!(2l'−1)!!]

    with γ² = σ_a² + σ_b², evaluated with Hermite Coulomb integrals and Boys functions, hence
    smooth through r = 0, where it is the self-interaction.

    Parameters
    ----------
    separation : Tensor, (…, 3), Å
        r_a − r_b.
    width2 : Tensor, (…), Å²
        γ² = σ_a² + σ_b².

    References
    ----------
    L. E. McMurchie, E. R. Davidson, J. Comput. Phys. 26, 218 (1978),
    doi:10.1016/0021-9991(78)90092-X, eqs. 4.6–4.8.
    """
    exponent = 0.5 / width2
    hermite = hermite_coulomb(separation, exponent, 2 * lmax)
    terms = torch.stack(list(hermite.values()), dim=-1)
    blocks = terms @ pair_matrix(lmax, tuple(hermite)).to(terms)
    return blocks.unflatten(-1, (n_components(lmax), n_components(lmax)))


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def pair_matrix(lmax: int, powers: tuple[tuple[int, int, int], ...]) -> Tensor:
    """R_a(∇_a) R_b(∇_b) as derivatives with respect to r_a − r_b, (len(powers), M²).

    ∇_b contributes (−1)^l'.
    """
    m = n_components(lmax)
    matrix = torch.zeros(len(powers), m, m, dtype=torch.float64)
    for a in range(m):
        for b in range(m):
            scale = (-1.0) ** degree(b)
            for component in (a, b):
                scale /= math.prod(range(2 * degree(component) - 1, 0, -2))
            for left, x in MONOMIALS[a].items():
                for right, y in MONOMIALS[b].items():
                    total = (left[0] + right[0], left[1] + right[1], left[2] + right[2])
                    matrix[powers.index(total), a, b] += scale * x * y
    return matrix.flatten(1)


def hermite_coulomb(
    separation: Tensor, exponent: Tensor, order: int
) -> dict[tuple[int, int, int], Tensor]:
    """∂_x^t ∂_y^u ∂_z^v of k_e erf(√a r)/r for all t + u + v ≤ order."""
    functions = boys(exponent * (separation * separation).sum(-1), order)
    prefactor = 2 * COULOMB * torch.sqrt(exponent / math.pi)
    radial = [prefactor * (-2 * exponent) ** n * functions[n] for n in range(order + 1)]
    level = {(0, 0, 0, n): radial[n] for n in range(order + 1)}
    for total in range(1, order + 1):
        for t in range(total + 1):
            for u in range(total - t + 1):
                powers = (t, u, total - t - u)
                axis = max(range(3), key=lambda i: powers[i])
                one, two = _lowered(powers, axis, 1), _lowered(powers, axis, 2)
                for n in range(order - total + 1):
                    value = separation[..., axis] * level[(*one, n + 1)]
                    if powers[axis] > 1:
                        value = value + (powers[axis] - 1) * level[(*two, n + 1)]
                    level[(*powers, n)] = value
    return {key[:3]: value for key, value in level.items() if key[3] == 0}


def _lowered(powers: tuple[int, int, int], axis: int, by: int) -> tuple[int, int, int]:
    lowered = list(powers)
    lowered[axis] -= by
    return (lowered[0], lowered[1], lowered[2])
