"""Regular solid harmonics and the one map between component orders.

Components are stored in the order of e3nn, in which y is the polar axis: l = 1 is (x, y, z) and
l = 2 is (xz, xy, y², yz, z²−x²). The harmonics are Racah-normalised, so that a coefficient *is*
the multipole moment: R₀₀ = 1 and R₁ = (x, y, z), hence charge in e and dipole in e Å.

Adding l = 3 is adding seven rows to :data:`MONOMIALS`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

_S3 = math.sqrt(3.0)

#: For every component, its solid harmonic as {(power of x, of y, of z): factor}.
MONOMIALS: tuple[dict[tuple[int, int, int], float], ...] = (
    {(0, 0, 0): 1.0},
    {(1, 0, 0): 1.0},
    {(0, 1, 0): 1.0},
    {(0, 0, 1): 1.0},
    {(1, 0, 1): _S3},
    {(1, 1, 0): _S3},
    {(0, 2, 0): 1.0, (2, 0, 0): -0.5, (0, 0, 2): -0.5},
    {(0, 1, 1): _S3},
    {(0, 0, 2): 0.5 * _S3, (2, 0, 0): -0.5 * _S3},
)

#: Largest angular momentum available.
MAX_L = math.isqrt(len(MONOMIALS)) - 1


def degree(component: int) -> int:
    """Angular momentum l of a component index.

    >>> [degree(c) for c in range(9)]
    [0, 1, 1, 1, 2, 2, 2, 2, 2]
    """
    return math.isqrt(component)


def n_components(lmax: int) -> int:
    """Number of components up to and including ``lmax``."""
    return (lmax + 1) ** 2


def solid_harmonics(vectors: Tensor, lmax: int) -> Tensor:
    """R_lm of Cartesian vectors: (…, 3) → (…, (lmax + 1)²), in Å^l for vectors in Å.

    ∇²R_lm = 0 and Σ_m R_lm(a) R_lm(b) = |a|^l |b|^l P_l(cos θ_ab).
    """
    components = [torch.ones_like(vectors[..., 0])]
    for monomials in MONOMIALS[1 : n_components(lmax)]:
        terms = [
            factor * math.prod(vectors[..., axis] for axis in range(3) for _ in range(powers[axis]))
            for powers, factor in monomials.items()
        ]
        components.append(sum(terms[1:], terms[0]))
    return torch.stack(components, dim=-1)


def double_factorials(lmax: int, *, like: Tensor) -> Tensor:
    """(2l − 1)!! of every component, ((lmax + 1)²,)."""
    values = [float(math.prod(range(2 * degree(c) - 1, 0, -2))) for c in range(n_components(lmax))]
    return torch.tensor(values, dtype=like.dtype, device=like.device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def m_order_matrix(lmax: int) -> Tensor:
    """Matrix that turns our components into the standard order m = −l … l with z polar.

    ``standard = ours @ m_order_matrix(lmax).T``; orthogonal, so the transpose maps back. For
    l = 1 the standard order is (y, z, x), the order of PolarMACE and graph-longrange.
    """
    # Our R_lm(x, y, z) is the standard one at (z, x, y); evaluate both on points and compare.
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(64, 3, dtype=torch.float64, generator=generator)
    ours = solid_harmonics(points, lmax)
    standard = solid_harmonics(points[:, [1, 2, 0]], lmax)
    return torch.linalg.lstsq(ours, standard).solution.T.round(decimals=12)
