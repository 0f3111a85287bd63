"""The Coulomb operator as a matrix that is made once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from asesc.electrostatics.operator import CoulombOperator, Receivers


class DenseCoulomb(CoulombOperator):
    """J of another operator as padded blocks, one matrix product per application.

    Made in O(N²K) from K waves, hence for small structures to which J is applied many times.
    """

    def __init__(self, operator: CoulombOperator) -> None:
        super().__init__(operator.system, operator.basis)
        self._operator, self._blocks = operator, operator.dense()

    def potential(self, coefficients: Tensor) -> Tensor:
        layout = self.system.layout
        p = layout.pad(coefficients)
        v = self._blocks @ p.flatten(1)[..., None]
        return layout.unpad(v.reshape(p.shape))

    def dense(self) -> Tensor:
        return self._blocks

    def receivers(self, factors: Sequence[float]) -> Receivers:
        return self._operator.receivers(factors)
