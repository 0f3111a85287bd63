"""The coarse-grained charge density: coefficients on a Gaussian basis."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from asesc.density.basis import GaussianBasis


@dataclass(frozen=True)
class Density:
    """ρ(r) = Σ_i Σ_lm p_i,lm φ_lm(r − r_i).

    Parameters
    ----------
    coefficients : Tensor, (N, M), e Å^l
        Multipole moments; components as in :mod:`asesc.density.harmonics`.
    basis : GaussianBasis
    """

    coefficients: Tensor
    basis: GaussianBasis

    @property
    def charges(self) -> Tensor:
        """Atomic charges, (N,), e."""
        return self.coefficients[:, 0]

    @property
    def dipoles(self) -> Tensor:
        """Atomic dipoles (x, y, z), (N, 3), e Å; zero for a basis without dipoles."""
        if self.basis.lmax == 0:
            return self.coefficients.new_zeros(len(self.coefficients), 3)
        return self.coefficients[:, 1:4]
