"""Coulomb operator on a B-spline mesh: linear scaling, every boundary, no real-space sum.

With Gaussian densities of about 1 Å the model's own smearing is what Ewald summation would have
to introduce, so that the reciprocal sum alone is the answer. On a mesh it costs two Fourier
transforms:  J = A S* F⁻¹ w(k) e^(−k²σ²) / |b(k)|² F S Aᵀ  with S the stencils of
:mod:`~asesc.electrostatics.stencil`, b the spectrum of the spline, and A the derivatives that make
multipoles, in units of the mesh. J is symmetric to rounding by construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.density.harmonics import MONOMIALS
from asesc.electrostatics.compiled import stencil_type
from asesc.electrostatics.convolution import Convolution, MeshEnergy, shared, summed, wave_energy
from asesc.electrostatics.kept import kept_by_cells
from asesc.electrostatics.kernels import (
    ElectrodeKernel,
    OpenKernel,
    PeriodicKernel,
    SlabKernel,
    reciprocal,
)
from asesc.electrostatics.mesh_transform import MeshTransform, mesh_transform
from asesc.electrostatics.open_mesh import open_green_function
from asesc.electrostatics.operator import CoulombOperator, Receivers, require_wider
from asesc.electrostatics.plan import MeshPlan, mesh_cells, plan_mesh
from asesc.electrostatics.splines import spline_spectrum
from asesc.electrostatics.stencil import derivative_terms, gather, spread
from asesc.system import System


class MeshCoulomb(CoulombOperator):
    """J by B-spline interpolation and fast Fourier transforms.

    Parameters
    ----------
    kernel : PeriodicKernel, SlabKernel or OpenKernel
    plan : MeshPlan
        Of :func:`~asesc.electrostatics.plan.plan_mesh`; keep it while a structure moves.

    Notes
    -----
    Time O(N p³ + n log n) and memory O(N p + n) with n mesh points; every further Gaussian width
    adds two transforms. :meth:`dense` applies J to every unit vector and is meant for tests.

    The energy is differentiable without limit in coefficients, positions and cell; at a fixed plan
    its derivatives are those of the mesh energy itself. The sum of all forces vanishes to the
    accuracy of the mesh, not to rounding.
    """

    def __init__(
        self,
        system: System,
        basis: GaussianBasis,
        *,
        kernel: PeriodicKernel | SlabKernel | OpenKernel,
        plan: MeshPlan,
    ) -> None:
        super().__init__(system, basis)
        self.plan, self._kernel = plan, kernel
        tables = _tables(kernel, mesh_cells(system, kernel, plan), plan, basis.lmax)
        widths, group = basis.distinct_widths
        self._x = self._turn(system.positions, tables.per_point.transpose(1, 2))
        self._stencil = stencil_type(self._x.device)(
            self._x,
            plan.shape,
            order=plan.order,
            channel=group * system.n_structures + system.batch,
            n_channels=len(widths) * system.n_structures,
        )
        self._angular, self._k2, self._green = tables.angular, tables.k2, tables.green
        self._per_point = tables.per_point
        self._transform = mesh_transform(
            plan.shape, self._stencil.row, plan.waves, self._x.dtype, self._x.device
        )
        self._widths = widths
        self._damping = self._beyond_narrowest(1.0) if len(widths) > 1 else None

    def potential(self, coefficients: Tensor) -> Tensor:
        if self._wants_graph(coefficients):
            return self._received(self._density(coefficients), self._damping)
        with torch.no_grad():
            return self._applied(coefficients)

    def energy(self, coefficients: Tensor) -> Tensor:
        if self._green.requires_grad or self._per_point.requires_grad:
            return self._energy_of_any_cell(coefficients)
        return _EnergyAtFixedCell.apply(coefficients, self.system.positions, self)

    def dense(self) -> Tensor:
        return dense_columns(self, self.potential)

    def receivers(self, factors: Sequence[float]) -> Receivers:
        factors = require_wider(factors)
        if isinstance(self._kernel, PeriodicKernel):
            return _MeshReceivers(self, factors)
        # Where the kernel is truncated it must reach as far as the tails of the widest pair.
        narrow, wide = self.basis.width_range
        tails = wide * math.sqrt(0.5 * (1 + max(factors) ** 2))
        plan = plan_mesh(
            self.system,
            self._kernel,
            width_range=(narrow, tails),
            lmax=self.basis.lmax,
            accuracy=self.plan.accuracy,
        )
        farther = MeshCoulomb(self.system, self.basis, kernel=self._kernel, plan=plan)
        return _MeshReceivers(farther, factors)

    def received(self, coefficients: Tensor, factors: Sequence[float]) -> Tensor:
        """The potential on Gaussians ``factors`` times as wide: (N, W, M)."""
        density = self._density(coefficients)
        dampings = [self._beyond_narrowest(factor) for factor in factors]
        return torch.stack([self._received(density, damping) for damping in dampings], dim=1)

    def _energy_of_any_cell(self, coefficients: Tensor) -> Tensor:
        """The energy with a graph to everything and to any order."""
        return MeshEnergy.apply(
            self._density(coefficients), self._green, self._damping, self._transform
        )

    def _energy_gradients(
        self, coefficients: Tensor, total: Tensor, scale: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """∂(scale · E)/∂p and ∂(scale · E)/∂r from the waves of the density of all widths."""
        lmax = self.basis.lmax
        field = scale[:, None, None, None] * self._green * total
        mesh = self._transform.inverse(shared(field, self._damping))
        values = self._stencil.gather(mesh.flatten(0, 1), lmax + 1 if wanted[1] else lmax)
        on_coefficients = on_positions = None
        if wanted[0]:
            own = values[:, : self._angular.shape[2]]
            on_coefficients = self._turn(own, self._angular.transpose(1, 2))
        if wanted[1]:
            on_x = self._stencil.along(self._turn(coefficients, self._angular), values, lmax)
            on_positions = self._turn(on_x, self._per_point)
        return on_coefficients, on_positions

    def _wants_graph(self, coefficients: Tensor) -> bool:
        tensors = (coefficients, self._x, self._green, self._angular, self._damping)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)

    def _applied(self, coefficients: Tensor) -> Tensor:
        """J p: the mesh of the density is given up before that of the field is made."""
        damping, lmax = self._damping, self.basis.lmax
        waves = summed(self._transform.forward(self._density(coefficients)), damping) * self._green
        field = self._transform.inverse(shared(waves, damping))
        values = self._stencil.gather(field.flatten(0, 1), lmax)
        return self._turn(values, self._angular.transpose(1, 2))

    def _received(self, density: Tensor, damping: Tensor | None) -> Tensor:
        field = Convolution.apply(density, self._green, self._damping, damping, self._transform)
        values = gather(field.flatten(0, 1), self._x, self._stencil, self.basis.lmax)
        return self._turn(values, self._angular.transpose(1, 2))

    def _beyond_narrowest(self, factor: float) -> Tensor:
        """exp(−k²(f²σ² − σ_min²)/2) of every width, (widths, B, kx, ky, kz)."""
        excess = (factor * self._widths) ** 2 - self.plan.width**2
        return torch.exp(-0.5 * excess[:, None, None, None, None] * self._k2)

    def _density(self, coefficients: Tensor) -> Tensor:
        """Spline coefficients of the density, (widths, B, nx, ny, nz)."""
        values = self._turn(coefficients, self._angular)
        if torch.is_grad_enabled():
            mesh = spread(values, self._x, self._stencil, self.basis.lmax)
        else:
            mesh = self._stencil.spread(values, self.basis.lmax)
        return mesh.unflatten(0, (-1, self.system.n_structures))

    def _turn(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """Per-atom rows times the matrix of their structure."""
        layout = self.system.layout
        return layout.unpad(layout.pad(rows) @ matrices)


class _EnergyAtFixedCell(torch.autograd.Function):
    """½⟨p, J p⟩ and its first derivatives in a dozen operations instead of a hundred.

    Forces are wanted at every step, second derivatives rarely: only then is the graph of the
    single operations made.
    """

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, positions: Tensor, operator: MeshCoulomb) -> Tensor:
        ctx.save_for_backward(coefficients, positions)
        ctx.operator, transform = operator, operator._transform
        ctx.total = summed(transform.forward(operator._density(coefficients)), operator._damping)
        return wave_energy(ctx.total, operator._green, transform)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, operator = ctx.saved_tensors, ctx.operator
        if torch.is_grad_enabled():
            energy = operator._energy_of_any_cell(inputs[0])
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            found = iter(torch.autograd.grad(energy, wanted, gradient, create_graph=True))
            gradients = [next(found) if tensor.requires_grad else None for tensor in inputs]
        else:
            wanted = ctx.needs_input_grad
            gradients = operator._energy_gradients(inputs[0], ctx.total, gradient, wanted)
        return *gradients, None


class _MeshReceivers(Receivers):
    """Wider Gaussians damp the field on the mesh before it is gathered."""

    def __init__(self, operator: MeshCoulomb, factors: Sequence[float]) -> None:
        self._operator, self._factors = operator, factors

    def potential(self, coefficients: Tensor) -> Tensor:
        return self._operator.received(coefficients, self._factors)

    def dense(self) -> Tensor:
        return dense_columns(self._operator, self.potential)


def dense_columns(operator: CoulombOperator, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """A linear map of coefficients as padded blocks (B, …, n·M, n·M), one column after another."""
    layout, m = operator.system.layout, operator.basis.n_components
    n_structures, n = layout.shape
    rows = layout.mask.repeat_interleave(m, dim=1)
    columns = []
    for unit in torch.eye(n * m, dtype=operator.basis.widths.dtype, device=rows.device):
        p = layout.unpad(unit.view(1, n, m).expand(n_structures, n, m))
        column = layout.pad(apply(p))  # (B, n, …, M)
        columns.append(column.movedim(1, -2).flatten(-2))
    dense = torch.stack(columns, dim=-1)
    real = rows[:, :, None] & rows[:, None]
    return dense * real.view(n_structures, *[1] * (dense.ndim - 3), n * m, n * m)


@dataclass(frozen=True)
class _Tables:
    """All that depends on the cell only.

    Parameters
    ----------
    per_point : Tensor, (B, 3, 3)
        ∂x/∂r of x in mesh spacings; rows belong to the mesh directions.
    angular : Tensor, (B, M, T)
        Of :func:`_angular`.
    k2, green : Tensor, (B, kx, ky, kz)
        k², and the Green function, on the waves of the plan.
    """

    per_point: Tensor
    angular: Tensor
    k2: Tensor
    green: Tensor


def _tables(
    kernel: PeriodicKernel | SlabKernel | OpenKernel, cells: Tensor, plan: MeshPlan, lmax: int
) -> _Tables:
    """Made anew where the cell is differentiated; otherwise those of the last cells are kept."""
    if cells.requires_grad or isinstance(kernel, ElectrodeKernel):
        return _make_tables(kernel, cells, plan, lmax)
    axis = kernel.axis if isinstance(kernel, SlabKernel) else None
    return _kept_tables(cells, type(kernel), axis, plan, lmax)


@kept_by_cells(maxsize=4)
def _kept_tables(
    cells: Tensor,
    kernel: type[PeriodicKernel | SlabKernel | OpenKernel],
    axis: int | None,
    plan: MeshPlan,
    lmax: int,
) -> _Tables:
    return _make_tables(kernel() if axis is None else kernel(axis), cells, plan, lmax)


def _make_tables(
    kernel: PeriodicKernel | SlabKernel | OpenKernel, cells: Tensor, plan: MeshPlan, lmax: int
) -> _Tables:
    per_point = reciprocal(cells) * (cells.new_tensor(plan.shape)[:, None] / (2 * math.pi))
    k2 = _wave_vectors(cells, _plan_transform(plan, like=cells)).square().sum(-1)
    return _Tables(per_point, _angular(per_point, lmax), k2, _green_function(kernel, cells, plan))


def _angular(per_point: Tensor, lmax: int) -> Tensor:
    """R_lm(∇)/(2l − 1)!! in derivatives with respect to mesh coordinates: (B, M, T)."""
    # ∇_a = Σ_d (∂x_d/∂r_a) ∂_d, and its outer powers for the higher multipoles.
    gradient = power = per_point.transpose(1, 2)
    blocks = [per_point.new_ones(len(per_point), 1, 1)]
    for l in range(1, lmax + 1):
        cartesian, packing = (table.to(per_point) for table in _tensor_tables(l))
        blocks.append(cartesian @ power @ packing)
        power = torch.einsum("bij,bkl->bikjl", power, gradient).flatten(1, 2).flatten(2)
    rows, terms = (sum(block.shape[axis] for block in blocks) for axis in (1, 2))
    matrix, row, column = per_point.new_zeros(len(per_point), rows, terms), 0, 0
    for block in blocks:
        height, width = block.shape[1:]
        padding = (column, terms - column - width, row, rows - row - height)
        matrix = matrix + torch.nn.functional.pad(block, padding)
        row, column = row + height, column + width
    return matrix


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _tensor_tables(l: int) -> tuple[Tensor, Tensor]:
    """R_lm/(2l − 1)!! as Cartesian tensors, (2l + 1, 3^l), and 3^l derivatives as terms."""
    indices = list(product(range(3), repeat=l))
    components = MONOMIALS[l * l : (l + 1) ** 2]
    terms = [term for term in derivative_terms(l) if sum(term) == l]
    cartesian = torch.zeros(len(components), len(indices), dtype=torch.float64)
    packing = torch.zeros(len(indices), len(terms), dtype=torch.float64)
    for position, axes in enumerate(indices):
        powers = (axes.count(0), axes.count(1), axes.count(2))
        packing[position, terms.index(powers)] = 1.0
        if list(axes) == sorted(axes):
            for row, monomials in enumerate(components):
                cartesian[row, position] = monomials.get(powers, 0.0)
    return cartesian / math.prod(range(2 * l - 1, 0, -2)), packing


def _green_function(
    kernel: PeriodicKernel | SlabKernel | OpenKernel, cells: Tensor, plan: MeshPlan
) -> Tensor:
    """w(k) e^(−k²σ²) n/|b(k)|² on the waves of the plan: (B, kx, ky, kz)."""
    transform = _plan_transform(plan, like=cells)
    at = [m % n for m, n in zip(transform.numbers, plan.shape, strict=True)]
    bx, by, bz = (
        spline_spectrum(n, plan.order, like=cells)[index] ** 2
        for index, n in zip(at, plan.shape, strict=True)
    )
    window = bx[:, None, None] * by[:, None] * bz
    if isinstance(kernel, OpenKernel):
        green = open_green_function(plan, like=cells)
        return green[:, at[0][:, None, None], at[1][:, None], at[2]] / window
    k = _wave_vectors(cells, transform).flatten(1, 3)
    k2 = k.square().sum(-1)
    values = kernel.evaluate(k, k2, cells) * torch.exp(-(plan.width**2) * k2)
    # Half-way waves have no sign, so that J would not be symmetric in a skewed cell.
    keep = [2 * m.abs() != n for m, n in zip(transform.numbers, plan.shape, strict=True)]
    kept = keep[0][:, None, None] * keep[1][:, None] * keep[2]
    return values.unflatten(1, kept.shape) * (math.prod(plan.shape) * kept / window)


def _wave_vectors(cells: Tensor, transform: MeshTransform) -> Tensor:
    """k of the waves that are kept: (B, kx, ky, kz, 3), 1/Å."""
    rows = reciprocal(cells)[:, None, None, None]
    mx, my, mz = (m.to(cells) for m in transform.numbers)
    return (
        mx[:, None, None, None] * rows[..., 0, :]
        + my[:, None, None] * rows[..., 1, :]
        + mz[:, None] * rows[..., 2, :]
    )


def _plan_transform(plan: MeshPlan, *, like: Tensor) -> MeshTransform:
    """Between the mesh of a plan and its waves."""
    return mesh_transform(plan.shape, plan.shape[2], plan.waves, like.dtype, like.device)
