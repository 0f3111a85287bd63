"""Atom-centred Gaussian multipoles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from asesc.density.harmonics import (
    MAX_L,
    degree,
    double_factorials,
    n_components,
    solid_harmonics,
)
from asesc.errors import InputError


@dataclass(frozen=True)
class GaussianBasis:
    """Normalised Gaussian multipoles up to ``lmax`` with one width per atom.

    The density of a unit multipole is

        φ_lm(r) = R_lm(−∇) g_σ(r) / (2l − 1)!!,   g_σ(r) = (2πσ²)^(−3/2) exp(−r²/2σ²),

    so that ∫ φ_lm R_lm d³r = 1: coefficients are multipole moments in e Å^l. Its Fourier transform
    is φ̃_lm(k) = (−i)^l R_lm(k) exp(−k²σ²/2) / (2l − 1)!!.

    Parameters
    ----------
    lmax : int
        Highest multipole, 0 to 2.
    widths : Tensor, (N,), Å
        Gaussian standard deviation σ of every atom.

    References
    ----------
    Hobson's theorem for R_lm(∇) on a Gaussian: E. J. Weniger, Collect. Czech. Chem. Commun. 70,
    1225 (2005), doi:10.1135/cccc20051225.
    """

    lmax: int
    widths: Tensor

    def __post_init__(self) -> None:
        if not 0 <= self.lmax <= MAX_L:
            raise InputError(f"lmax={self.lmax} is not available; choose 0 to {MAX_L}")
        if not self.width_range[0] > 0:
            raise InputError(
                f"Gaussian widths must be positive, got {self.width_range[0]:g} Å; "
                "point charges are the limit of a small width, e.g. 0.3 Å"
            )

    @property
    def n_components(self) -> int:
        """Coefficients per atom, M = (lmax + 1)²."""
        return n_components(self.lmax)

    def form_factors(self, wave_vectors: Tensor) -> Tensor:
        """Angular part of φ̃, (−i)^l R_lm(k)/(2l − 1)!!: (…, K, 3) → (…, K, M), complex.

        The Gaussian factor is left to the caller, who may share it between atoms.
        """
        powers = [(1, -1j, -1)[degree(c)] for c in range(self.n_components)]
        options = {"dtype": wave_vectors.dtype.to_complex(), "device": wave_vectors.device}
        scale = torch.tensor(powers, **options) / double_factorials(self.lmax, like=wave_vectors)
        return solid_harmonics(wave_vectors, self.lmax) * scale

    @property
    def common_width(self) -> float | None:
        """The width if all atoms share one, else None."""
        low, high = self.width_range
        return low if low == high else None

    @cached_property
    def distinct_widths(self) -> tuple[Tensor, Tensor]:
        """The different widths, ascending, and which of them every atom has: (W,), Å, and (N,)."""
        if self.common_width is not None:
            return self.widths[:1].detach(), torch.zeros_like(self.widths, dtype=torch.int64)
        widths, group = self.widths.unique(return_inverse=True)
        return widths, group

    @cached_property
    def width_range(self) -> tuple[float, float]:
        """Smallest and largest width, Å."""
        low, high = torch.aminmax(self.widths)
        return float(low), float(high)
