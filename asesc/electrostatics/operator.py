"""The Coulomb operator: the narrow waist between geometry and self-consistency."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.gaussian import pair_interaction
from asesc.electrostatics.plane_waves import plane_waves
from asesc.errors import InputError
from asesc.system import System

if TYPE_CHECKING:
    from asesc.electrostatics.backends import BackendReport


class CoulombOperator(ABC):
    """Symmetric linear map p → v = J p, bound to one geometry and basis.

    v is the electrostatic potential averaged over each basis function, conjugate to p: in V for
    charges and V/Å for dipoles (minus the averaged field). The interaction energy is *defined* as

        E = ½ ⟨p, J p⟩,

    with the self-interaction of every Gaussian on the diagonal of J: for a charge of width σ it
    is k_e/(σ√π), i.e. 8.124 V/e at 1 Å.
    """

    #: Which engine it is and its error, where a boundary has chosen it.
    report: BackendReport | None = None

    def __init__(self, system: System, basis: GaussianBasis) -> None:
        self.system = system
        self.basis = basis

    @abstractmethod
    def potential(self, coefficients: Tensor) -> Tensor:
        """v = J p: (N, M) → (N, M), V Å^−l."""

    @abstractmethod
    def dense(self) -> Tensor:
        """J as padded blocks, (B, n·M, n·M), V Å^−l/(e Å^l); rows ordered (atom, component)."""

    @abstractmethod
    def receivers(self, factors: Sequence[float]) -> Receivers:
        """The same potential averaged over Gaussians wider than those of the density.

        Parameters
        ----------
        factors : sequence of W floats ≥ 1
            Widths in units of the width of each atom's own density.
        """

    def energy(self, coefficients: Tensor) -> Tensor:
        """½ ⟨p, J p⟩ of every structure, (B,), eV."""
        return 0.5 * self.system.sum((coefficients * self.potential(coefficients)).sum(-1))

    def diag(self) -> Tensor:
        """Interaction of every function with itself alone, without images: (N, M), V Å^−l."""
        zero = self.basis.widths.new_zeros(len(self.basis.widths), 3)
        blocks = pair_interaction(zero, 2 * self.basis.widths**2, self.basis.lmax)
        return blocks.diagonal(dim1=1, dim2=2)

    def lowk_basis(self, n: int) -> Tensor:
        """The ``n``/2 longest waves on every function, in which J is largest: (N, M, n)."""
        return plane_waves(self.system, self.basis, n)

    def __add__(self, other: CoulombOperator) -> CoulombOperator:
        return _Sum(self, other)


class Receivers(ABC):
    """Linear map p → u of a density to its potential on Gaussian multipoles of several widths.

    u is normalised like v of the :class:`CoulombOperator`: a constant potential V gives V for
    l = 0 and a uniform field E gives ∇V = −E for l = 1, whatever the width. The atom's own
    Gaussian is included. A pair sees γ² = σ_i² f² + σ_j²; f = 1 gives v itself.
    """

    @abstractmethod
    def potential(self, coefficients: Tensor) -> Tensor:
        """u: (N, M) → (N, W, M), V Å^−l."""

    @abstractmethod
    def dense(self) -> Tensor:
        """The map as padded blocks, (B, W, n·M, n·M); rows receive."""


def require_wider(factors: Sequence[float]) -> tuple[float, ...]:
    """The factors, or InputError where a receiver is narrower than its atom's density."""
    if not factors or not all(factor >= 1 for factor in factors):
        raise InputError(
            f"receiver widths {list(factors)}, in units of the width of the density, must be at "
            "least 1: sums over wave vectors stop where the density itself is resolved"
        )
    return tuple(float(factor) for factor in factors)


class _Sum(CoulombOperator):
    """Sum of two operators bound to the same geometry and basis."""

    def __init__(self, left: CoulombOperator, right: CoulombOperator) -> None:
        super().__init__(left.system, left.basis)
        self._terms = (left, right)

    def potential(self, coefficients: Tensor) -> Tensor:
        left, right = self._terms
        return left.potential(coefficients) + right.potential(coefficients)

    def energy(self, coefficients: Tensor) -> Tensor:
        left, right = self._terms
        return left.energy(coefficients) + right.energy(coefficients)

    def dense(self) -> Tensor:
        left, right = self._terms
        return left.dense() + right.dense()

    def receivers(self, factors: Sequence[float]) -> Receivers:
        left, right = self._terms
        return _SumOfReceivers(left.receivers(factors), right.receivers(factors))


class _SumOfReceivers(Receivers):
    def __init__(self, left: Receivers, right: Receivers) -> None:
        self._terms = (left, right)

    def potential(self, coefficients: Tensor) -> Tensor:
        left, right = self._terms
        return left.potential(coefficients) + right.potential(coefficients)

    def dense(self) -> Tensor:
        left, right = self._terms
        return left.dense() + right.dense()
