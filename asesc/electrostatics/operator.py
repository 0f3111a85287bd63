"""The Coulomb operator: the narrow waist between geometry and self-consistency."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from asesc.density import GaussianBasis
from asesc.system import System


class CoulombOperator(ABC):
    """Symmetric linear map p → v = J p, bound to one geometry and basis.

    v is the electrostatic potential averaged over each basis function, conjugate to p: in V for
    charges and V/Å for dipoles (minus the averaged field). The interaction energy is *defined* as

        E = ½ ⟨p, J p⟩,

    with the self-interaction of every Gaussian on the diagonal of J: for a charge of width σ it
    is k_e/(σ√π), i.e. 8.124 V/e at 1 Å.
    """

    def __init__(self, system: System, basis: GaussianBasis) -> None:
        self.system = system
        self.basis = basis

    @abstractmethod
    def potential(self, coefficients: Tensor) -> Tensor:
        """v = J p: (N, M) → (N, M), V Å^−l."""

    @abstractmethod
    def dense(self) -> Tensor:
        """J as padded blocks, (B, n·M, n·M), V Å^−l/(e Å^l); rows ordered (atom, component)."""

    def energy(self, coefficients: Tensor) -> Tensor:
        """½ ⟨p, J p⟩ of every structure, (B,), eV."""
        return 0.5 * self.system.sum((coefficients * self.potential(coefficients)).sum(-1))

    def __add__(self, other: CoulombOperator) -> CoulombOperator:
        return _Sum(self, other)


class _Sum(CoulombOperator):
    """Sum of two operators bound to the same geometry and basis."""

    def __init__(self, left: CoulombOperator, right: CoulombOperator) -> None:
        super().__init__(left.system, left.basis)
        self._terms = (left, right)

    def potential(self, coefficients: Tensor) -> Tensor:
        left, right = self._terms
        return left.potential(coefficients) + right.potential(coefficients)

    def dense(self) -> Tensor:
        left, right = self._terms
        return left.dense() + right.dense()
