"""The residual as the stages of a solver see it: in blocks, counted, checked, measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import SCFError
from asesc.solvers.jacobian import Jacobian
from asesc.solvers.options import SCFOptions

if TYPE_CHECKING:
    from asesc.system import BlockLayout


class CountedResidual:
    """r(x) on blocks (B, d), one row per structure; padding stays zero.

    Parameters
    ----------
    residual : callable
        (N, M) → (N, M).
    layout : BlockLayout
    options : SCFOptions
    energy_error : callable, optional
        (N, M) → (B,), eV: the energy error that a residual implies.
    """

    def __init__(
        self,
        residual: Callable[[Tensor], Tensor],
        *,
        layout: BlockLayout,
        options: SCFOptions,
        energy_error: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._residual, self._layout = residual, layout
        self._options, self._energy_error = options, energy_error
        self.maps = self.products = 0
        self.history: list[float] = []

    @property
    def spent(self) -> int:
        """Maps and products so far."""
        return self.maps + self.products

    @property
    def exhausted(self) -> bool:
        """Whether the budget of the options is used up."""
        return self.spent >= self._options.max_maps

    def blocks(self, rows: Tensor) -> Tensor:
        """(N, M) → (B, d)."""
        return self._layout.pad(rows).flatten(1)

    def rows(self, blocks: Tensor) -> Tensor:
        """(B, d) → (N, M)."""
        return self._layout.unpad(blocks.reshape(*self._layout.shape, -1))

    def __call__(self, x: Tensor) -> Tensor:
        """r(x), (B, d).

        Raises
        ------
        SCFError
            For a residual that is not finite.
        """
        with torch.no_grad():
            r = self.blocks(self._residual(self.rows(x)))
        self.maps += 1
        self.history.append(float(r.abs().max()))
        self._require_finite(r)
        return r

    def error(self, r: Tensor) -> Tensor:
        """Largest component of every structure, (B,)."""
        return r.abs().amax(-1)

    def converged(self, r: Tensor) -> Tensor:
        """Whether residual and implied energy error are below their tolerances, (B,)."""
        done = self.error(r) < self._options.tolerance
        if self._energy_error is None or not bool(done.any()):
            return done
        with torch.no_grad():
            energy = self._energy_error(self.rows(r)).abs()
        return done & (energy < self._options.energy_tolerance)

    def linearise(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """v → (∂r/∂x) v on blocks (B, d), counted; its graph costs one map."""
        jacobian = Jacobian(self._residual, self.rows(x))
        self.maps += 1

        def apply(vector: Tensor) -> Tensor:
            self.products += 1
            product = self.blocks(jacobian.apply(self.rows(vector)))
            self._require_finite(product)
            return product

        return apply

    def _require_finite(self, r: Tensor) -> None:
        if not bool(torch.isfinite(r).all()):
            block = int(torch.nonzero(~torch.isfinite(r))[0, 0])
            raise SCFError(
                f"the map gave numbers that are not finite for structure {block} (map "
                f"{self.maps}): a density cannot follow from them. Check the geometry for "
                "coinciding atoms and the model's parameters for NaN; if a large field or charge "
                "is applied, try a smaller one",
                history=self.history,
            )
