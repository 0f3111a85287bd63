"""Small random structures and what may be done to them without changing their physics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asesc.density.harmonics import solid_harmonics
from asesc.electrostatics import Boundary
from asesc.system import System

Pbc = tuple[bool, bool, bool]

#: Every boundary that a structure can ask for.
ALL_PBC: tuple[Pbc, ...] = (
    (False, False, False),
    (True, True, True),
    (True, True, False),
    (True, False, True),
    (False, True, True),
)


def accepted_pbc(boundary: Boundary) -> tuple[Pbc, ...]:
    """The values of ASE's ``pbc`` a boundary answers for, as itself or as a refined parent."""
    parents = [c for c in type(boundary).__mro__ if issubclass(c, Boundary) and c is not Boundary]
    return tuple(pbc for pbc in ALL_PBC if any(parent.accepts(pbc) for parent in parents))


def example_system(numbers: Sequence[int], pbc: Pbc, *, seed: int = 0) -> System:
    """Random atoms at least 1.2 Å apart in a triclinic cell with one edge of only 3.2 Å.

    The cell is wide enough for the atoms, and repeated closely enough that atoms see their own
    images within any usual cutoff.
    """
    generator = np.random.default_rng(seed)
    cell = np.array([[3.2, 0.3, -0.2], [0.4, 4.6, 0.5], [-0.3, 0.2, 5.1]])
    cell[2] *= max(1.0, len(numbers) / 6)
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3) @ cell
    positions: list[np.ndarray] = []
    while len(positions) < len(numbers):
        trial = generator.random(3) @ cell
        distances = [np.linalg.norm(trial - r + images, axis=1).min() for r in positions]
        if min(distances, default=np.inf) > 1.2:
            positions.append(trial)
    return System(
        positions=torch.tensor(np.array(positions)),
        numbers=torch.tensor(list(numbers)),
        cell=torch.tensor(cell)[None],
        pbc=pbc,
        batch=torch.zeros(len(numbers), dtype=torch.int64),
        charge=torch.zeros(1, dtype=torch.float64),
        electric_field=torch.zeros(1, 3, dtype=torch.float64),
    )


def rotation(seed: int = 0) -> Tensor:
    """A random proper rotation, (3, 3)."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    return q * torch.linalg.det(q)


def rotate_coefficients(coefficients: Tensor, matrix: Tensor) -> Tensor:
    """Multipoles after r → r Rᵀ: those with R'(r Rᵀ) = R(r), for every l: (N, M) → (N, M)."""
    lmax = int(coefficients.shape[1] ** 0.5) - 1
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(32, 3, dtype=torch.float64, generator=generator)
    before, after = solid_harmonics(points, lmax), solid_harmonics(points @ matrix.T, lmax)
    return coefficients @ torch.linalg.lstsq(before, after).solution
