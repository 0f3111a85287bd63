"""Coulomb operator by a direct sum over wave vectors, for every boundary."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel, sample
from asesc.electrostatics.operator import CoulombOperator
from asesc.system import System


class ReciprocalCoulomb(CoulombOperator):
    """J = Σ_k w(k) φ̃(k) φ̃(k)* with structure factors tabulated once per geometry.

    With S(k) = Σ_i,lm p_i,lm φ̃_lm(k) e^(−ik·r_i) the energy is ½ Σ_k w(k)|S(k)|² and
    v_i,lm = ∂E/∂p_i,lm. Because all sources are smooth, no real-space part is needed and the sum
    converges like exp(−k²σ²).

    Parameters
    ----------
    kernel : PeriodicKernel, SlabKernel or OpenKernel
    accuracy : float
        Neglected fraction exp(−k_c²σ_min²) of the spectrum and of the Gaussian tails.

    Notes
    -----
    Time and memory O(N K) with K ∝ V (k_c = √(−ln accuracy)/σ_min)³ wave vectors, i.e. O(N²) at
    constant density. Works for batches on padded blocks.
    """

    def __init__(
        self,
        system: System,
        basis: GaussianBasis,
        *,
        kernel: PeriodicKernel | SlabKernel | OpenKernel,
        accuracy: float,
    ) -> None:
        super().__init__(system, basis)
        narrow, wide = basis.width_range
        decay = math.sqrt(-math.log(accuracy))
        cells = kernel.cells(system, 2 * wide * decay)
        lattice = sample(kernel, cells, decay / narrow)
        self._form = basis.form_factors(lattice.wave_vectors)
        phases = system.layout.pad(system.positions) @ lattice.wave_vectors.transpose(-1, -2)
        self._cos, self._sin = torch.cos(phases), torch.sin(phases)
        self._weights = lattice.weights
        self._damp(lattice.wave_vectors)
        self._odd = torch.tensor(basis.is_odd, device=system.positions.device)

    def _damp(self, wave_vectors: Tensor) -> None:
        """Apply exp(−k²σ²/2), once to the weights if all widths agree."""
        k2 = (wave_vectors * wave_vectors).sum(-1)
        width = self.basis.common_width
        if width is not None:
            self._weights = self._weights * torch.exp(-k2 * width**2)
            return
        widths = self.system.layout.pad(self.basis.widths)
        damping = torch.exp(-0.5 * widths[..., None] ** 2 * k2[:, None])
        self._cos, self._sin = self._cos * damping, self._sin * damping

    def potential(self, coefficients: Tensor) -> Tensor:
        p = self.system.layout.pad(coefficients)
        cos_p = (self._cos.transpose(-1, -2) @ p) * self._form
        sin_p = (self._sin.transpose(-1, -2) @ p) * self._form
        # φ̃ is real for even l and i times a real number for odd l, and e^(−ikr) = cos − i sin.
        real = torch.where(self._odd, sin_p, cos_p).sum(-1) * self._weights
        imag = torch.where(self._odd, cos_p, -sin_p).sum(-1) * self._weights
        real, imag = real[..., None] * self._form, imag[..., None] * self._form
        on_cos = torch.where(self._odd, imag, real)
        on_sin = torch.where(self._odd, real, -imag)
        return self.system.layout.unpad(self._cos @ on_cos + self._sin @ on_sin)

    def dense(self) -> Tensor:
        layout = self.system.layout
        n_structures, n = layout.shape
        form = self._form.transpose(-1, -2)[:, None]
        odd = self._odd[:, None]
        cos, sin = self._cos[:, :, None], self._sin[:, :, None]
        real = (torch.where(odd, sin, cos) * form).reshape(n_structures, n * form.shape[2], -1)
        imag = (torch.where(odd, cos, -sin) * form).reshape(n_structures, n * form.shape[2], -1)
        weights = self._weights[:, None]
        blocks = (real * weights) @ real.transpose(-1, -2)
        blocks = blocks + (imag * weights) @ imag.transpose(-1, -2)
        if layout.full:
            return blocks
        atoms = layout.mask.repeat_interleave(form.shape[2], dim=1).to(blocks.dtype)
        return blocks * atoms[:, :, None] * atoms[:, None, :]
