"""Coulomb operator by a sum over wave vectors, for every boundary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.kernels import Lattice, OpenKernel, PeriodicKernel, SlabKernel, sample
from asesc.electrostatics.operator import CoulombOperator, Receivers, require_wider
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
        self._kernel, self._reach = kernel, reach
        self._decay = decay = math.sqrt(-math.log(accuracy))
        cells = kernel.cells(system, 2 * wide * decay + reach)
        self.lattice = lattice = sample(kernel, cells, decay / narrow)
        self._form = basis.form_factors(lattice.wave_vectors).conj()
        self._columns, self._heights = _phase_factors(system, lattice)
        self._groups = self._group_by_width()

    def potential(self, coefficients: Tensor) -> Tensor:
        return self.received(coefficients, (1.0,))[:, 0]

    def energy(self, coefficients: Tensor) -> Tensor:
        factor = torch.view_as_real(self.structure_factor(coefficients))
        return 0.5 * (self.lattice.weights * factor.square().sum(-1)).sum(-1)

    def dense(self) -> Tensor:
        return self.dense_received((1.0,))[:, 0]

    def receivers(self, factors: Sequence[float]) -> Receivers:
        factors = require_wider(factors)
        wide = self.basis.width_range[1]
        # Where the kernel is truncated it must reach as far as the tails of a pair.
        tails = self._decay * wide * (math.sqrt(2 * (1 + max(factors) ** 2)) - 2)
        if isinstance(self._kernel, PeriodicKernel) or tails <= self._reach:
            return _ReciprocalReceivers(self, factors)
        farther = ReciprocalCoulomb(
            self.system,
            self.basis,
            kernel=self._kernel,
            accuracy=math.exp(-(self._decay**2)),
            reach=tails,
        )
        return _ReciprocalReceivers(farther, factors)

    def received(self, coefficients: Tensor, factors: tuple[float, ...]) -> Tensor:
        """Potential on Gaussians ``factors`` times as wide, (N, W, M); see :meth:`receivers`."""
        source = self.lattice.weights * self.structure_factor(coefficients)
        pieces = []
        for group in self._groups:
            damped = [group.damped(factor) * source for factor in factors]
            waves = torch.stack(damped, dim=-1)[..., None] * self._form.conj()[:, :, None]
            pieces.append(group.at_atoms(waves.flatten(2)))
        if len(pieces) > 1:
            order = torch.cat([group.atoms for group in self._groups])
            together = torch.cat(pieces)
            pieces = [torch.zeros_like(together).index_copy(0, order, together)]
        return pieces[0].unflatten(1, (len(factors), -1))

    def dense_received(self, factors: tuple[float, ...]) -> Tensor:
        """:meth:`received` as padded blocks, (B, W, n·M, n·M)."""
        kept = (self.lattice.weights != 0).any(0).nonzero()[:, 0]
        phases = (self._columns[:, :, None] * self._heights[:, None]).flatten(1)
        phases = phases.index_select(1, kept)
        source = self._parts(phases, kept, 1.0)
        weights = self.lattice.weights[:, kept].repeat_interleave(2, dim=-1)
        # J_ab = Re Σ_k w φ_a φ_b*: one real product over both parts of every wave.
        source = (source * weights[:, None]).transpose(-1, -2)
        return torch.stack([self._parts(phases, kept, f) @ source for f in factors], dim=1)

    def _parts(self, phases: Tensor, kept: Tensor, factor: float) -> Tensor:
        """Real and imaginary parts of every wave on every function, (B, n·M, 2K)."""
        layout = self.system.layout
        width2 = (factor * self.basis.widths[:, None]) ** 2
        phases = phases * torch.exp(-0.5 * width2 * self.lattice.k2[:, kept][self.system.batch])
        form = self._form[:, kept].transpose(-1, -2)[:, None]
        waves = layout.pad(phases)[:, :, None] * form
        return torch.view_as_real(waves).reshape(len(waves), layout.shape[1] * form.shape[2], -1)

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
        for width in self.basis.distinct_widths[0]:
            atoms = (widths == width).nonzero()[:, 0]
            batch = self.system.batch[atoms]
            counts = torch.bincount(batch, minlength=self.system.n_structures)
            groups.append(self._group(atoms, BlockLayout(batch, counts), width))
        return groups

    def _group(self, atoms: Tensor | slice, layout: BlockLayout, width: Tensor) -> _Group:
        columns, heights = layout.pad(self._columns[atoms]), layout.pad(self._heights[atoms])
        return _Group(atoms, layout, columns, heights, torch.exp(-0.5 * width**2 * self.lattice.k2))


class _ReciprocalReceivers(Receivers):
    """Several widths from one structure factor."""

    def __init__(self, operator: ReciprocalCoulomb, factors: tuple[float, ...]) -> None:
        self._operator, self._factors = operator, factors

    def potential(self, coefficients: Tensor) -> Tensor:
        return self._operator.received(coefficients, self._factors)

    def dense(self) -> Tensor:
        return self._operator.dense_received(self._factors)


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

    def damped(self, factor: float) -> Tensor:
        """exp(−k²(fσ)²/2), (B, K)."""
        return self.damping if factor == 1 else self.damping ** (factor * factor)

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
