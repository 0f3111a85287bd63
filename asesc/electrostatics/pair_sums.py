"""Potentials and forces of all pairs of Gaussian charges and dipoles, without their matrix.

One application of J needs none of its M² elements per pair: contracted with the multipoles, a pair
of charges and dipoles is a handful of numbers, and its forces are the same numbers again.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from asesc.electrostatics.compiled import is_available
from asesc.electrostatics.compiled_pairs import PREFACTOR, compiled_pair_sums
from asesc.electrostatics.gaussian import evaluate_boys

#: Pairs in one strip of rows: its numbers should stay in a processor's cache.
STRIP_PAIRS = 2**14


def pair_sums(
    positions: Tensor, width2: Tensor, counts: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """v = J p and ∂(½ p·J p)/∂r for charges, or charges and dipoles.

    With d = r_i − r_j, s = μ_i·d, t = μ_j·d, and g_n the radial derivatives (1/r d/dr)ⁿ of
    k_e erf(r/√(2γ²))/r, a pair has the energy

        q_i q_j g_0 + (q_j s − q_i t − μ_i·μ_j) g_1 − s t g_2.

    Parameters
    ----------
    positions : Tensor, (B, n, 3), Å
    width2 : Tensor, (B, n), Å²
        Squared widths, positive in padded rows too.
    counts : Tensor, (B,)
        Atoms of every structure, the first rows of its block.
    p : Tensor, (B, n, 1 or 4)
        Zero in padded rows.

    Returns
    -------
    (B, n, 1 or 4) and (B, n, 3) tensors
        Exact to rounding, without graph. O(n²) time; memory O(n) beside one strip of rows.

    References
    ----------
    W. Smith, CCP5 Newsletter 46, 18 (1998): multipoles by radial derivatives; the B_n of its
    eqs. 12–14 are (−1)ⁿ g_n.
    """
    with torch.no_grad():
        if positions.device.type == "cpu" and is_available():
            return compiled_pair_sums(positions, width2, counts, p)
        # Sums over d are taken as differences of sums over r, which must be small numbers.
        centred = positions - positions.mean(1, keepdim=True)
        potential, gradient = torch.zeros_like(p), torch.zeros_like(centred)
        n_structures, n = width2.shape
        add = _add_charges if p.shape[-1] == 1 else _add_dipoles
        for first, last in pairwise(cuts(n_structures, n, is_symmetric=True)):
            rows, columns = slice(first, last), slice(first, None)
            separation = torch.cdist(
                centred[:, rows],
                centred[:, columns],
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            exponent = 0.5 / (width2[:, rows, None] + width2[:, None, columns])
            radial = _radial(separation, exponent, 1 if p.shape[-1] == 1 else 3)
            # The square at the diagonal holds every pair twice.
            radial[..., : last - first] *= 0.5
            add(radial, centred, p, (rows, columns), potential, gradient)
        return potential, gradient


def bilinear_gradient(
    positions: Tensor, width2: Tensor, counts: Tensor, u: Tensor, p: Tensor
) -> Tensor:
    """∂(u·J p)/∂r at fixed u and p, (B, n, 3): that of ¼ (Q(u + p) − Q(u − p)), Q(x) = x·J x."""
    of_u, of_p = torch.linalg.vector_norm(u), torch.linalg.vector_norm(p)
    if bool(of_u == 0) or bool(of_p == 0):
        return torch.zeros_like(positions)
    # Of one size, or the difference would lose the digits of the smaller one.
    ratio = of_u / of_p
    scaled = u / ratio
    plus = pair_sums(positions, width2, counts, scaled + p)[1]
    return 0.5 * ratio * (plus - pair_sums(positions, width2, counts, scaled - p)[1])


def cuts(n_structures: int, n: int, *, is_symmetric: bool) -> list[int]:
    """Rows where strips begin and the last one ends; a mirrored strip gets shorter and higher."""
    found = [0]
    while found[-1] < n:
        length = n_structures * (n - found[-1] if is_symmetric else n)
        found.append(min(n, found[-1] + max(1, STRIP_PAIRS // length)))
    return found


def _radial(separation: Tensor, exponent: Tensor, order: int) -> Tensor:
    """g_0 … g_order, (order + 1, B, r, c)."""
    radial = evaluate_boys(exponent * separation.square_(), order)
    factor = PREFACTOR * exponent.sqrt()
    for n in range(order + 1):
        radial[n] *= factor
        factor = factor * (-2 * exponent)
    return radial


_Slices = tuple[slice, slice]


def _add_charges(
    radial: Tensor, r: Tensor, p: Tensor, which: _Slices, potential: Tensor, gradient: Tensor
) -> None:
    rows, columns = which
    g0, g1 = radial
    q_i, q_j, r_i, r_j = p[:, rows], p[:, columns], r[:, rows], r[:, columns]
    potential[:, rows] += g0 @ q_j
    potential[:, columns] += g0.transpose(1, 2) @ q_i
    along = g1 * q_i * q_j.transpose(1, 2)
    gradient[:, rows] += _times_separation(along, r_i, r_j)
    gradient[:, columns] += _times_separation(along.transpose(1, 2), r_j, r_i)


def _add_dipoles(
    radial: Tensor, r: Tensor, p: Tensor, which: _Slices, potential: Tensor, gradient: Tensor
) -> None:
    rows, columns = which
    g0, g1, g2, g3 = radial
    q_i, q_j, r_i, r_j = p[:, rows, :1], p[:, columns, :1], r[:, rows], r[:, columns]
    m_i, m_j = p[:, rows, 1:], p[:, columns, 1:]
    across = q_j.transpose(1, 2)
    s = (m_i * r_i).sum(-1, keepdim=True) - m_i @ r_j.transpose(1, 2)
    t = r_i @ m_j.transpose(1, 2) - (m_j * r_j).sum(-1)[:, None]
    # What stands before d, μ_i and μ_j in the derivative of the energy with respect to d.
    by_i = g1 * across - g2 * t
    by_j = -(g1 * q_i + g2 * s)
    along = g1 * q_i * across + g2 * (across * s - q_i * t - m_i @ m_j.transpose(1, 2)) - g3 * s * t
    potential[:, rows, :1] += g0 @ q_j - (g1 * t).sum(-1, keepdim=True)
    potential[:, columns, :1] += g0.transpose(1, 2) @ q_i + (g1 * s).sum(1)[..., None]
    potential[:, rows, 1:] += _times_separation(by_i, r_i, r_j) - g1 @ m_j
    potential[:, columns, 1:] -= (
        _times_separation(by_j.transpose(1, 2), r_j, r_i) + g1.transpose(1, 2) @ m_i
    )
    gradient[:, rows] += _times_separation(along, r_i, r_j)
    gradient[:, rows] += by_i.sum(-1, keepdim=True) * m_i + by_j @ m_j
    gradient[:, columns] += _times_separation(along.transpose(1, 2), r_j, r_i)
    gradient[:, columns] -= by_i.transpose(1, 2) @ m_i + by_j.sum(1)[..., None] * m_j


def _times_separation(values: Tensor, r_i: Tensor, r_j: Tensor) -> Tensor:
    """Σ_j x_ij (r_i − r_j), (B, r, 3)."""
    return values.sum(-1, keepdim=True) * r_i - values @ r_j
