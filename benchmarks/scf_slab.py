"""Self-consistency of metal slabs in a field: maps to convergence against thickness.

Close-packed layers 2.04 Å apart, 8.3 Å² per atom, Gaussian charges of σ = 1.5 Å, susceptibility
χ = 0.1 e/V per atom, neutral. The charge answers to its potential u = J q − E z either linearly,

    q_i = −χ (u_i − μ),

or saturating at q₀, q_i = −q₀ f(χ (u_i − μ)/q₀) with f(x) = x/√(1 + x²), and μ such that Σq = 0.
Charge sloshes: the largest eigenvalue of χ J grows like the square of the thickness, and linear
mixing by a fixed fraction must fail from some thickness on.

    python benchmarks/scf_slab.py > benchmarks/results/scf_slab.md
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics import boundary_for
from asesc.electrostatics.field import uniform_field_potential
from asesc.errors import SCFError
from asesc.solvers import (
    SCFOptions,
    Solution,
    estimate_susceptibility,
    long_waves,
    screening,
    solve_fixed_point,
)
from asesc.system import System

LAYERS = (4, 6, 8, 10, 12, 16, 20, 24)
SPACING, AREA, SIGMA = 2.04, 8.3, 1.5  # Å, Å² per atom, Å
SUSCEPTIBILITY = 0.1  # e/V
FIELD = 0.1  # V/Å
MIXING, MAX_LINEAR = 0.25, 500


@dataclass(frozen=True)
class MetalSlab:
    """A slab whose charges answer to their own potential; ``limit`` is q₀, e, or None."""

    layers: int
    limit: float | None = None
    susceptibility: float = SUSCEPTIBILITY
    field: float = FIELD

    @cached_property
    def system(self) -> System:
        edge = math.sqrt(AREA)
        height = SPACING * torch.arange(self.layers, dtype=torch.float64)
        shift = 0.5 * edge * (torch.arange(self.layers) % 2).to(torch.float64)
        cell = torch.diag(torch.tensor([edge, edge, 3 * SPACING * self.layers]))
        return System(
            positions=torch.stack([shift, shift, height - height.mean()], dim=1),
            numbers=torch.full((self.layers,), 13),
            cell=cell.to(torch.float64)[None],
            pbc=(True, True, False),
            batch=torch.zeros(self.layers, dtype=torch.int64),
            charge=torch.zeros(1, dtype=torch.float64),
            electric_field=torch.tensor([[0.0, 0.0, self.field]], dtype=torch.float64),
        )

    @cached_property
    def coulomb(self) -> Tensor:
        """J as a matrix, (N, N), V/e."""
        return boundary_for("auto", self.system.pbc).bind(self.system, self._basis).dense()[0]

    @property
    def _basis(self) -> GaussianBasis:
        return GaussianBasis(0, torch.full((self.layers,), SIGMA, dtype=torch.float64))

    @cached_property
    def external(self) -> Tensor:
        """−E z, (N,), V."""
        return uniform_field_potential(self.system, self._basis)[:, 0]

    def potential(self, p: Tensor) -> Tensor:
        """J p, (N, 1), V."""
        return self.coulomb @ p

    def ramped(self, p: Tensor, strength: Tensor) -> Tensor:
        """p − F(p) in ``strength`` times the field, (N, 1), e."""
        u = (self.potential(p))[:, 0] + strength * self.external
        if self.limit is None:
            return p + self.susceptibility * (u - u.mean())[:, None]
        answer = _saturate(self.susceptibility * (u - self._level(u)) / self.limit)
        return p + self.limit * answer[:, None]

    def residual(self, p: Tensor) -> Tensor:
        """p − F(p), (N, 1), e."""
        return self.ramped(p, torch.ones(1, dtype=p.dtype))

    def _level(self, u: Tensor) -> Tensor:
        """μ with Σ f(χ(u − μ)/q₀) = 0: bisection, then one Newton step for its derivative."""
        scale = self.susceptibility / self.limit
        low, high = u.detach().min(), u.detach().max()
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = _saturate(scale * (u.detach() - middle)).sum() > 0
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        x = scale * (u - middle)
        slope = (1 + x.detach() ** 2) ** -1.5
        return middle + _saturate(x).sum() / (scale * slope.sum())

    def jacobian(self, p: Tensor) -> Tensor:
        """∂r/∂p, (1, N, N)."""
        return torch.autograd.functional.jacobian(self.residual, p)[:, 0, :, 0][None]

    def screening(self) -> Callable[[Tensor], Tensor]:
        """The preconditioner, with the susceptibility that the map shows at no charge."""
        layout, z = self.system.layout, self.system.positions[:, 2]
        depth = (z - z.min() + 0.5 * SPACING) / (SPACING * self.layers)
        waves = long_waves(depth, layout=layout, n_components=1, count=min(8, self.layers - 1))
        p = torch.zeros(self.layers, 1, dtype=torch.float64)
        chi = estimate_susceptibility(self.residual, p, waves, self.potential, layout=layout)
        return screening(waves, self.potential, chi, layout=layout)

    def solve(self, **arguments: Callable[[Tensor], Tensor]) -> Solution:
        """From no charge, by the ladder of :func:`solve_fixed_point`."""
        start = torch.zeros(self.layers, 1, dtype=torch.float64)
        layout = self.system.layout
        return solve_fixed_point(self.residual, start, layout=layout, **arguments)[1]

    def mix_linearly(self, fraction: float = MIXING) -> int | None:
        """Maps of p ← p − a r(p) to 1e-8 e, or None if that fails."""
        p = torch.zeros(self.layers, 1, dtype=torch.float64)
        for maps in range(1, MAX_LINEAR + 1):
            r = self.residual(p)
            if float(r.abs().max()) < SCFOptions().tolerance:
                return maps
            p = p - fraction * r
        return None


def _saturate(x: Tensor) -> Tensor:
    """f(x) = x/√(1 + x²)."""
    return x / torch.sqrt(1 + x**2)


def _cell(solve: Callable[[], Solution]) -> str:
    """Maps and products, and the rung that converged."""
    try:
        solution = solve()
    except SCFError:
        return "fails"
    return f"{solution.iterations} ({solution.method})"


def main() -> None:
    """Print a table for each answer of the charges."""
    print("# Self-consistency of metal slabs in a field")
    for title, limit, field in (
        ("linear", None, FIELD),
        ("saturating at 0.2 e", 0.2, FIELD),
        ("saturating at 0.2 e, ten times the field", 0.2, 10 * FIELD),
    ):
        title = f"{title[0].upper()}{title[1:]}"
        print(f"\n{title}; maps and Jacobian products to 1e-8 e, and the rung that converged.\n")
        print(
            f"| layers | linear mixing {MIXING} | no preconditioner | screening | dense Jacobian |"
        )
        print("|---|---|---|---|---|")
        for layers in LAYERS:
            slab = MetalSlab(layers, limit, field=field)
            linear = slab.mix_linearly() or "fails"
            plain = _cell(slab.solve)
            screened = _cell(lambda slab=slab: slab.solve(precondition=slab.screening()))
            dense = _cell(lambda slab=slab: slab.solve(jacobian=slab.jacobian))
            print(f"| {layers} | {linear} | {plain} | {screened} | {dense} |", flush=True)


if __name__ == "__main__":
    main()
