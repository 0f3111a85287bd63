"""Coulomb operator by a sum over wave vectors, for every boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.kernels import Lattice, OpenKernel, PeriodicKernel, SlabKernel, sample
from asesc.electrostatics.operator import CoulombOperator
from asesc.system import BlockLayout, System


class ReciprocalCoulomb(CoulombOperator):
    """J = Σ_k w(k) φ̃(k) φ̃(k)* with structure factors of separable phases.

    With S(k) = Σ_i,lm p_i,lm φ̃*_lm(k) e^(ik·r_i) the energy is ½ Σ_k w(k)|S(k)|² and
    v_i,lm = ∂E/∂p_i,lm = Re Σ_k w(k) S(k) φ̃_lm(k) e^(−ik·r_i). Because all sources are smooth,
    no real-space part is needed and the sum converges like exp(−k²σ²).

    Parameters
    ----------
    kernel : PeriodicKernel, SlabKernel or OpenKernel
    accuracy : float
        Neglected fraction exp(−k_c²σ_min²) of the spectrum and of the Gaussian tails. Errors of
        potentials and energies are that for charges, about ten times it for dipoles and a
        hundred times it for quadrupoles.
    reach : float, Å
        How far outside the atoms potentials are wanted too, along open axes.

    Notes
    -----
    Time O(N K) with K ∝ V (k_c = √(−ln accuracy)/σ_min)³ wave vectors, i.e. O(N²) at constant
    density, in matrix products; memory O(N K^⅔). :meth:`dense` takes O(N² K) and O(N K).
    Works for batches on padded blocks.
    """

    def __init__(
        self,
        system: System,
        basis: GaussianBasis,
        *,
        kernel: PeriodicKernel | SlabKernel | OpenKernel,
        accuracy: float,
        reach: float = 0.0,
    ) -> None:
        super().__init__(system, basis)
        narrow, wide = basis.width_range
        decay = math.sqrt(-math.log(accuracy))
        cells = kernel.cells(system, 2 * wide * decay + reach)
        self.lattice = lattice = sample(kernel, cells, decay / narrow)
        self._form = basis.form_factors(lattice.wave_vectors).conj()
        self._columns, self._heights = _phase_factors(system, lattice)
        self._groups = self._group_by_width()

    def potential(self, coefficients: Tensor) -> Tensor:
        source = self.lattice.weights * self.structure_factor(coefficients)
        pieces = [
            group.at_atoms((group.damping * source)[..., None] * self._form.conj())
            for group in self._groups
        ]
        if len(pieces) == 1:
            return pieces[0]
        order = torch.cat([group.atoms for group in self._groups])
        return torch.zeros_like(coefficients).index_copy(0, order, torch.cat(pieces))

    def energy(self, coefficients: Tensor) -> Tensor:
        factor = torch.view_as_real(self.structure_factor(coefficients))
        return 0.5 * (self.lattice.weights * factor.square().sum(-1)).sum(-1)

    def dense(self) -> Tensor:
        system, layout = self.system, self.system.layout
        n_structures, n = layout.shape
        kept = (self.lattice.weights != 0).any(0).nonzero()[:, 0]
        phases = (self._columns[:, :, None] * self._heights[:, None]).flatten(1)
        phases = phases.index_select(1, kept)
        width2 = self.basis.widths[:, None] ** 2
        phases = phases * torch.exp(-0.5 * width2 * self.lattice.k2[:, kept][system.batch])
        form = self._form[:, kept].transpose(-1, -2)[:, None]
        waves = layout.pad(phases)[:, :, None] * form
        # J_ab = Re Σ_k w φ_a φ_b*: one real product over both parts of every wave.
        parts = torch.view_as_real(waves).reshape(n_structures, n * form.shape[2], -1)
        weights = self.lattice.weights[:, kept].repeat_interleave(2, dim=-1)
        return (parts * weights[:, None]) @ parts.transpose(-1, -2)

    def structure_factor(self, coefficients: Tensor) -> Tensor:
        """S(k) on :attr:`lattice`, (B, K), e."""
        factors = [
            group.damping * (self._form * group.on_waves(coefficients)).sum(-1)
            for group in self._groups
        ]
        return sum(factors[1:], factors[0])

    def _group_by_width(self) -> list[_Group]:
        """Atoms of one width share exp(−k²σ²/2), which then need not be separable."""
        widths = self.basis.widths
        if self.basis.common_width is not None:
            return [self._group(slice(None), self.system.layout, widths[0])]
        groups = []
        for width in widths.unique():
            atoms = (widths == width).nonzero()[:, 0]
            batch = self.system.batch[atoms]
            counts = torch.bincount(batch, minlength=self.system.n_structures)
            groups.append(self._group(atoms, BlockLayout(batch, counts), width))
        return groups

    def _group(self, atoms: Tensor | slice, layout: BlockLayout, width: Tensor) -> _Group:
        columns, heights = layout.pad(self._columns[atoms]), layout.pad(self._heights[atoms])
        return _Group(atoms, layout, columns, heights, torch.exp(-0.5 * width**2 * self.lattice.k2))


@dataclass(frozen=True)
class _Group:
    """Atoms with one Gaussian width, on padded blocks.

    Parameters
    ----------
    atoms : Tensor, (n_g,), or slice
        Which atoms; a slice where all have the same width.
    layout : BlockLayout
    columns, heights : Tensor, (B, n, C) and (B, n, H)
        e^(ik·r) in two factors.
    damping : Tensor, (B, K)
        exp(−k²σ²/2).
    """

    atoms: Tensor | slice
    layout: BlockLayout
    columns: Tensor
    heights: Tensor
    damping: Tensor

    def on_waves(self, coefficients: Tensor) -> Tensor:
        """Σ_i p_i,m e^(ik·r_i) of every component: (N, M) → (B, K, M)."""
        p = self.layout.pad(coefficients[self.atoms])
        right = self.heights[..., None] * p[:, :, None]
        sums = self.columns.transpose(1, 2) @ right.flatten(2)
        return sums.reshape(len(sums), -1, p.shape[-1])

    def at_atoms(self, waves: Tensor) -> Tensor:
        """Re Σ_k e^(−ik·r_i) f_m(k) of every component: (B, K, M) → (n_g, M)."""
        n_columns, n_heights = self.columns.shape[2], self.heights.shape[2]
        waves = waves.reshape(len(waves), n_columns, n_heights * waves.shape[-1])
        sums = (self.columns.conj() @ waves).unflatten(2, (n_heights, -1))
        return self.layout.unpad((self.heights.conj()[..., None] * sums).sum(2).real)


def _phase_factors(system: System, lattice: Lattice) -> tuple[Tensor, Tensor]:
    """e^(i(n₁θ₁ + n₂θ₂)) and e^(in₃θ₃) with θ = b·r: (N, C) and (N, H)."""
    layout = system.layout
    reciprocal = lattice.reciprocal[:, list(lattice.axes)]
    angles = layout.unpad(layout.pad(system.positions) @ reciprocal.transpose(1, 2))
    columns = angles[:, :2] @ lattice.columns.T
    heights = angles[:, 2:] * lattice.heights
    return phases(columns), phases(heights)


def phases(angle: Tensor) -> Tensor:
    """e^(i angle)."""
    return torch.complex(torch.cos(angle), torch.sin(angle))
