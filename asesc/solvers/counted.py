"""The residual as the stages of a solver see it: in blocks, counted, checked, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asesc.errors import SCFError
from asesc.solvers.blocks import Blocks
from asesc.solvers.jacobian import Jacobian

Map = Callable[[Tensor], Tensor]


@dataclass
class Tally:
    """What a solve has cost so far; ``history`` holds the largest residual of every map."""

    limit: int
    maps: int = 0
    products: int = 0
    history: list[float] = field(default_factory=list)

    @property
    def spent(self) -> int:
        """Maps and products."""
        return self.maps + self.products

    @property
    def left(self) -> int:
        """Maps and products that may still be spent."""
        return self.limit - self.spent


class CountedResidual:
    """r(x) on blocks (B, d), one row per structure.

    Parameters
    ----------
    residual : callable
        (N, M) → (N, M).
    blocks : Blocks
    tally : Tally
        Shared by all residuals of one solve.
    tolerance : float
        On the largest component.
    energy_tolerance : float, eV
    energy_error : callable, optional
        (N, M) → (B,), eV: the energy error that a residual implies.
    """

    def __init__(
        self,
        residual: Map,
        *,
        blocks: Blocks,
        tally: Tally,
        tolerance: float,
        energy_tolerance: float = float("inf"),
        energy_error: Map | None = None,
    ) -> None:
        self._residual, self.blocks, self.tally = residual, blocks, tally
        self.tolerance = tolerance
        self._energy_tolerance, self._energy_error = energy_tolerance, energy_error

    def __call__(self, x: Tensor) -> Tensor:
        """r(x), (B, d).

        Raises
        ------
        SCFError
            For a residual that is not finite.
        """
        with torch.no_grad():
            r = self.blocks.of(self._residual(self.blocks.rows(x)))
        self.tally.maps += 1
        self.tally.history.append(float(r.abs().max()))
        require_finite(r, self.tally)
        return r

    def replaced(self, residual: Map, tolerance: float) -> CountedResidual:
        """Another residual of the same unknowns, on the same account."""
        return CountedResidual(residual, blocks=self.blocks, tally=self.tally, tolerance=tolerance)

    def converged(self, r: Tensor) -> Tensor:
        """Whether residual and implied energy error are below their tolerances, (B,)."""
        done = r.abs().amax(-1) < self.tolerance
        if self._energy_error is None or not bool(done.any()):
            return done
        return done & (self.energy_error(r) < self._energy_tolerance)

    def energy_error(self, r: Tensor) -> Tensor:
        """Energy error that r implies, (B,), eV; zero where the caller cannot tell."""
        if self._energy_error is None:
            return torch.zeros_like(r[:, 0])
        with torch.no_grad():
            return self._energy_error(self.blocks.rows(r)).abs()

    def linearise(self, x: Tensor) -> Map:
        """v → (∂r/∂x) v on blocks (B, d), counted."""
        jacobian = Jacobian(self._residual, self.blocks.rows(x))
        self.tally.maps += 1
        self.tally.history.append(float(jacobian.value.abs().max()))

        def apply(vector: Tensor) -> Tensor:
            self.tally.products += 1
            product = self.blocks.of(jacobian.apply(self.blocks.rows(vector)))
            require_finite(product, self.tally)
            return product

        return apply


def require_finite(values: Tensor, tally: Tally) -> None:
    """Refuse NaN and infinity in (B, …).

    Raises
    ------
    SCFError
        At once: no later map can repair it.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        block = int(torch.nonzero(~finite)[0, 0])
        raise SCFError(
            f"the self-consistency of structure {block} met numbers that are not finite "
            f"(evaluation {tally.maps}), so that no density can follow. Check the geometry for "
            "coinciding atoms and the model's parameters for NaN; with a large field or charge, "
            "try a smaller one",
            history=tally.history,
        )
