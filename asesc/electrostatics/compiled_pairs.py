"""The loop of :mod:`~asesc.electrostatics.pair_sums`, compiled for a processor by numba.

Tensor operations pass some fifty times over the numbers of all pairs; a compiled loop keeps those
of one pair in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from asesc.electrostatics.gaussian import SERIES_TERMS
from asesc.units import COULOMB

#: k_e 2/√π, the factor of √a F_n.
PREFACTOR = 2 * COULOMB / math.sqrt(math.pi)


def compiled_pair_sums(
    positions: Tensor, width2: Tensor, counts: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """v = J p and ∂(½ p·J p)/∂r of padded structures with ``counts`` atoms, on a processor."""
    n_components = p.shape[-1]
    full = torch.nn.functional.pad(p, (0, 4 - n_components)).contiguous()
    potential, gradient = torch.zeros_like(full), torch.zeros_like(positions)
    arrays = (positions.contiguous(), width2.contiguous(), counts, full, potential, gradient)
    _compiled_loop()(*(array.numpy() for array in arrays))
    return potential[..., :n_components], gradient


@lru_cache(maxsize=1)
def _compiled_loop() -> Callable[..., None]:
    """Compiled on first use and kept on disk."""
    from numba import float64, int64, njit, void

    prefactor, series, half_root_pi = PREFACTOR, SERIES_TERMS, 0.5 * math.sqrt(math.pi)

    def pair_sums(positions, width2, counts, p, potential, gradient):  # type: ignore[no-untyped-def]
        for b in range(len(counts)):
            r, w, x, v, f = positions[b], width2[b], p[b], potential[b], gradient[b]
            for i in range(counts[b]):
                for j in range(i, counts[b]):
                    d0, d1, d2 = r[i, 0] - r[j, 0], r[i, 1] - r[j, 1], r[i, 2] - r[j, 2]
                    a = 0.5 / (w[i] + w[j])
                    t = a * (d0 * d0 + d1 * d1 + d2 * d2)
                    decay = math.exp(-t)
                    # Boys functions: see :func:`~asesc.electrostatics.gaussian.boys`.
                    if t < 1.0:
                        term, f3 = 1.0, 1.0 / 7.0
                        for k in range(1, series):
                            term *= -t / k
                            f3 += term / (7 + 2 * k)
                        f2 = (2 * t * f3 + decay) / 5
                        f1 = (2 * t * f2 + decay) / 3
                        f0 = 2 * t * f1 + decay
                    else:
                        root, half = math.sqrt(t), 0.5 / t
                        f0 = half_root_pi * math.erf(root) / root
                        f1 = (f0 - decay) * half
                        f2 = (3 * f1 - decay) * half
                        f3 = (5 * f2 - decay) * half
                    g0 = prefactor * math.sqrt(a)
                    g1 = -2 * a * g0
                    g2 = -2 * a * g1
                    g3 = -2 * a * g2 * f3
                    g0, g1, g2 = g0 * f0, g1 * f1, g2 * f2
                    if i == j:
                        for c in range(4):
                            v[i, c] += (g0 if c == 0 else -g1) * x[i, c]
                        continue
                    qi, qj = x[i, 0], x[j, 0]
                    si = x[i, 1] * d0 + x[i, 2] * d1 + x[i, 3] * d2
                    sj = x[j, 1] * d0 + x[j, 2] * d1 + x[j, 3] * d2
                    mm = x[i, 1] * x[j, 1] + x[i, 2] * x[j, 2] + x[i, 3] * x[j, 3]
                    by_i, by_j = g1 * qj - g2 * sj, -(g1 * qi + g2 * si)
                    along = g1 * qi * qj + g2 * (qj * si - qi * sj - mm) - g3 * si * sj
                    v[i, 0] += g0 * qj - g1 * sj
                    v[j, 0] += g0 * qi + g1 * si
                    for c in range(3):
                        d = d0 if c == 0 else d1 if c == 1 else d2
                        mi, mj = x[i, c + 1], x[j, c + 1]
                        v[i, c + 1] += by_i * d - g1 * mj
                        v[j, c + 1] += by_j * d - g1 * mi
                        slope = along * d + by_i * mi + by_j * mj
                        f[i, c] += slope
                        f[j, c] -= slope

    blocks, rows = float64[:, :, ::1], float64[:, ::1]
    signature = void(blocks, rows, int64[::1], blocks, blocks, blocks)
    options = {"fastmath": {"contract", "nsz"}, "cache": True, "nogil": True}
    return njit(signature, **options)(pair_sums)
