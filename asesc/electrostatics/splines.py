"""Cardinal B-splines: the window that carries multipoles to a mesh and back.

A B-spline of order p is a piecewise polynomial of degree p − 1 with p − 2 continuous derivatives,
nonzero on p mesh intervals. Orders are even throughout: the transform of a sampled spline of odd
order vanishes at the Nyquist frequency of an even mesh, where dividing by it would explode.

References
----------
U. Essmann et al., J. Chem. Phys. 103, 8577 (1995), doi:10.1063/1.470117, eqs. 3.2–4.4.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor


def spline_weights(offset: Tensor, order: int, derivatives: int) -> Tensor:
    """∂ⁿM(j − x)/∂xⁿ at the p mesh points around x, for n = 0 … ``derivatives``.

    Parameters
    ----------
    offset : Tensor, (…)
        x − ⌊x⌋; the first of the p points is ⌊x⌋ − p/2 + 1.
    order : int
        p, even.

    Returns
    -------
    Tensor, (derivatives + 1, …, p)
    """
    # Powers of u − ½ rather than of u: half the magnitude, hence less cancellation.
    centred = offset - 0.5
    steps = centred[..., None].expand(*centred.shape, order).clone()
    steps[..., 0] = 1.0
    powers = steps.cumprod(-1)
    table = spline_polynomials(order, derivatives).to(offset)
    flat = powers.reshape(-1, order) @ table.permute(1, 0, 2).reshape(order, -1)
    return flat.reshape(*offset.shape, derivatives + 1, order).movedim(-2, 0)


def spline_spectrum(n_points: int, order: int, *, like: Tensor) -> Tensor:
    """Σ_j M(j) e^(−2πimj/n) of every index m of a mesh with n points: (n,), real, positive."""
    samples = spline_weights(like.new_zeros(()), order, 0)[0].tolist()
    index = torch.arange(n_points, dtype=like.dtype, device=like.device)
    angle = 2 * math.pi / n_points * index
    # At x = 0 the points are −p/2 + 1 … p/2, and M is even.
    return sum(  # type: ignore[return-value]
        value * torch.cos((tap - order // 2 + 1) * angle) for tap, value in enumerate(samples)
    )


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def spline_polynomials(order: int, derivatives: int) -> Tensor:
    """Coefficients of (x − ⌊x⌋ − ½)^k in the weight of each point: (derivatives + 1, k, point)."""
    table = torch.zeros(derivatives + 1, order, order, dtype=torch.float64)
    for tap, piece in enumerate(reversed(_pieces(order))):
        coefficients = _shifted(piece, Fraction(1, 2))
        for n in range(derivatives + 1):
            for k, value in enumerate(coefficients):
                table[n, k, tap] = float(value)
            coefficients = [k * value for k, value in enumerate(coefficients)][1:]
    return table


def _pieces(order: int) -> list[list[Fraction]]:
    """M_p on [j, j + 1) as coefficients of powers of x − j, by the recursion of Essmann et al."""
    pieces = [[Fraction(1)]]
    for p in range(2, order + 1):
        raised = [[Fraction(0)] * p for _ in range(p)]
        for j, coefficients in enumerate(pieces):
            for k, value in enumerate(coefficients):
                # x M_(p−1)(x) with x = j + u, and (p − x) M_(p−1)(x − 1) with x = j + 1 + u.
                raised[j][k] += value * Fraction(j, p - 1)
                raised[j][k + 1] += value * Fraction(1, p - 1)
                raised[j + 1][k] += value * Fraction(p - 1 - j, p - 1)
                raised[j + 1][k + 1] -= value * Fraction(1, p - 1)
        pieces = raised
    return pieces


def _shifted(coefficients: list[Fraction], by: Fraction) -> list[Fraction]:
    """The polynomial Σ c_k u^k in powers of u − ``by``."""
    out = [Fraction(0)] * len(coefficients)
    for k, value in enumerate(coefficients):
        for i in range(k + 1):
            out[i] += value * math.comb(k, i) * by ** (k - i)
    return out
