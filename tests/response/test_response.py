"""Linear response: derivatives against finite differences, sum rules and known limits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import NUMBERS, random_model

from asesc.errors import PropertyUnavailableError
from asesc.models import FAMILIES
from asesc.response import (
    born_effective_charges,
    dielectric_tensor,
    energy_and_forces,
    hessian,
    hessian_vector_product,
    molecular_dipole,
    polarisation,
    polarizability,
)
from asesc.system import System
from asesc.testing import example_system
from asesc.testing.differences import central_difference, tiled
from asesc.units import VACUUM_PERMITTIVITY

FREE = (False, False, False)
BULK = (True, True, True)
SLAB = (True, True, False)
VARIATIONAL = ["QEq", "SplitChargeEquilibration", "EnergyFunctional"]
ITINERANT = [name for name, family in FAMILIES.items() if family.has_itinerant_polarisation]


def system_for(family: str, pbc=FREE, *, charge: float = 0.0) -> System:
    system = example_system(NUMBERS, pbc)
    return replace(system, charge=system.charge + charge)


def dipole_difference(model, system: System) -> torch.Tensor:
    """∂μ_a/∂R_ib by finite differences, (N, 3, 3)."""

    def displaced(points: torch.Tensor) -> torch.Tensor:
        many = tiled(system, len(points))
        moved = replace(many, positions=many.positions + points.reshape(-1, 3))
        with torch.no_grad():
            return model(moved).dipole

    slope = central_difference(displaced, 3 * system.n_atoms)
    return slope.reshape(system.n_atoms, 3, 3).transpose(1, 2)


def in_fields(system: System, points: torch.Tensor) -> System:
    many = tiled(system, len(points))
    return replace(many, electric_field=many.electric_field + points)


@pytest.mark.parametrize("family", FAMILIES)
def test_born_charges_are_dipole_derivatives_and_obey_the_sum_rule(family):
    model = random_model(family)
    charge = 1.0 if model.has_variable_charge else 0.0
    system = system_for(family, charge=charge)
    born = born_effective_charges(model, system)
    expected = dipole_difference(model, system)
    torch.testing.assert_close(born.tensor, expected, atol=1e-6, rtol=0)
    assert float(born.acoustic_sum_error.abs().max()) < 1e-9
    assert float((born.tensor - born.tensor.mean(0)).abs().max()) > 0.1


@pytest.mark.parametrize("family", ITINERANT)
def test_born_charges_of_crystals(family):
    model, system = random_model(family), system_for(family, BULK)
    born = born_effective_charges(model, system)
    expected = dipole_difference(model, system)
    torch.testing.assert_close(born.tensor, expected, atol=1e-6, rtol=0)
    assert float(born.acoustic_sum_error.abs().max()) < 1e-9


@pytest.mark.parametrize("pbc", [FREE, SLAB, BULK])
@pytest.mark.parametrize("family", VARIATIONAL)
def test_born_charges_are_force_derivatives(family, pbc):
    """Z*_i,ab = ∂μ_a/∂R_ib = ∂F_ib/∂E_a, for every field direction a the family allows."""
    model, system = random_model(family), system_for(family, pbc)
    if family == "QEq" and pbc != FREE:
        with pytest.raises(PropertyUnavailableError, match="no polarisation along periodic"):
            born_effective_charges(model, system)
        return

    def forces(points: torch.Tensor) -> torch.Tensor:
        many = energy_and_forces(model, in_fields(system, points)).forces
        return many.reshape(len(points), system.n_atoms, 3)

    slope = central_difference(forces, 3).transpose(0, 1)
    born = born_effective_charges(model, system).tensor
    torch.testing.assert_close(born, slope, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("family", "pbc"),
    [
        ("QEq", FREE),
        ("SplitChargeEquilibration", FREE),
        ("SplitChargeEquilibration", BULK),
        ("EnergyFunctional", FREE),
        ("EnergyFunctional", BULK),
        ("FixedPoint", FREE),
    ],
)
def test_polarizability(family, pbc):
    """∂μ/∂E by autograd equals finite differences; symmetric and positive for energy minima."""
    model, system = random_model(family), system_for(family, pbc)
    alpha = polarizability(model, system)[0]

    def dipoles(points: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(in_fields(system, points)).dipole

    torch.testing.assert_close(alpha, central_difference(dipoles, 3).T, atol=1e-7, rtol=0)
    if family in VARIATIONAL:
        torch.testing.assert_close(alpha, alpha.T, atol=1e-8, rtol=0)
        assert float(torch.linalg.eigvalsh(alpha)[0]) > 1e-4


def test_polarizability_of_slabs_is_that_along_the_open_axis():
    system = replace(system_for("QEq", SLAB))
    cell = system.cell.clone()
    cell[0, 0, 2] = cell[0, 1, 2] = 0.0  # in-plane vectors in xy: z is the open direction
    system = replace(system, cell=cell)
    alpha = polarizability(random_model("QEq"), system)[0]
    assert float(alpha[2, 2]) > 1e-4
    in_plane = alpha.clone()
    in_plane[2, 2] = 0
    assert float(in_plane.abs().max()) == 0
    positions = system.positions.clone()
    positions[1] += cell[0, 0]
    moved = polarizability(random_model("QEq"), replace(system, positions=positions))[0]
    torch.testing.assert_close(moved, alpha, atol=1e-9, rtol=0)


def lattice_of_polarisable_atoms(edge: float, alpha: float, *, width: float) -> float:
    """ε∞ of one atom per cubic cell that has only a dipole, by the SQE equations."""
    model = _PolarisableAtoms(alpha, width)
    cell = edge * torch.eye(3, dtype=torch.float64)[None]
    system = replace(
        example_system((14,), BULK), cell=cell, positions=torch.zeros(1, 3, dtype=torch.float64)
    )
    epsilon = dielectric_tensor(model, system)[0]
    np.testing.assert_allclose(epsilon.numpy(), float(epsilon[0, 0]) * np.eye(3), atol=1e-10)
    return float(epsilon[0, 0])


class _PolarisableAtoms(torch.nn.Module):
    """SQE with nothing but a fixed atomic polarisability: no network is involved."""

    family = "PolarisableAtoms"
    has_itinerant_polarisation = True

    def __init__(self, alpha: float, width: float) -> None:
        super().__init__()
        self.alpha, self.width = alpha, width

    def forward(self, system: System, *, boundary: str = "auto", order: int = 2):
        from asesc.density import GaussianBasis
        from asesc.electrostatics import boundary_for
        from asesc.models.backbone import Features
        from asesc.models.base import Problem
        from asesc.models.split_charge_equilibration import Response, _equilibrate, _state_at
        from asesc.neighbors import find_edges

        n, edges = system.n_atoms, find_edges(system, 0.5)
        zeros = system.positions.new_zeros
        basis = GaussianBasis(1, torch.full((n,), self.width, dtype=torch.float64))
        features = Features(zeros(n, 1), zeros(n, 1, 3), zeros(n), edges, edges.vectors(system))
        problem = Problem(system, features, boundary_for(boundary, system.pbc).bind(system, basis))
        response = Response(
            electronegativity=zeros(n, 4),
            hardness=zeros(n),
            conductance=zeros(len(edges.source)),
            bias=zeros(len(edges.source)),
            polarizability=self.alpha * torch.eye(3, dtype=torch.float64).expand(n, 3, 3),
            formal=zeros(n),
            share=zeros(n),
        )
        return _state_at(problem, response, *_equilibrate(problem, response))


@pytest.mark.parametrize("alpha", [0.1, 0.4])
def test_clausius_mossotti(alpha):
    """(ε − 1)/(ε + 2) = α'/(3ε₀V) for a cubic lattice of point-like polarisable atoms.

    J includes the Gaussian's own field k_e/(6√π σ³): the polarisability of the atom in vacuum is
    α' with 1/α' = 1/α + that. Overlap of the Gaussians is erfc(L/2σ), nothing here.
    """
    from asesc.units import COULOMB

    width, edge = 0.6, 6.0
    dressed = 1 / (1 / alpha + COULOMB / (6 * math.sqrt(math.pi) * width**3))
    ratio = dressed / (3 * VACUUM_PERMITTIVITY * edge**3)
    epsilon = lattice_of_polarisable_atoms(edge, alpha, width=width)
    assert (epsilon - 1) / (epsilon + 2) == pytest.approx(ratio, rel=1e-8)


def test_hessian_is_the_force_derivative():
    model, system = random_model("SplitChargeEquilibration"), system_for("", BULK)

    def forces(points: torch.Tensor) -> torch.Tensor:
        many = tiled(system, len(points))
        moved = replace(many, positions=many.positions + points.reshape(-1, 3))
        return energy_and_forces(model, moved).forces.reshape(len(points), -1)

    expected = -central_difference(forces, 3 * system.n_atoms)
    matrix = hessian(model, system)
    torch.testing.assert_close(matrix, expected, atol=2e-5, rtol=0)
    translation = matrix.reshape(-1, system.n_atoms, 3).sum(1)
    assert float(translation.abs().max()) < 1e-7


@pytest.mark.parametrize("pbc", [FREE, BULK])
@pytest.mark.parametrize("family", FAMILIES)
def test_hessian_vector_products_are_changes_of_forces(family, pbc):
    """Along a random direction, at a charge where the family takes one."""
    model = random_model(family)
    system = system_for(family, pbc, charge=1.0 if model.has_variable_charge else 0.0)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(system.n_atoms, 3, generator=generator, dtype=torch.float64)

    def forces(points: torch.Tensor) -> torch.Tensor:
        many = tiled(system, len(points))
        moved = (points[:, :, None] * direction).reshape(-1, 3)
        many = replace(many, positions=many.positions + moved)
        return energy_and_forces(model, many).forces.reshape(len(points), -1, 3)

    product = hessian_vector_product(model, system, direction)
    expected = -central_difference(forces, 1)[0]
    torch.testing.assert_close(product, expected, atol=5e-5, rtol=1e-6)
    assert float(product.abs().max()) > 0.1


def test_second_derivatives_of_energy_and_dipole_agree():
    """−∂²E/∂E∂E = α: the energy is stationary in the density, with the graph attached."""
    model, system = random_model("SplitChargeEquilibration"), system_for("", FREE)
    field = system.electric_field.clone().requires_grad_()
    energy = model(replace(system, electric_field=field)).energy.sum()
    (slope,) = torch.autograd.grad(energy, field, create_graph=True)
    rows = [torch.autograd.grad(-slope[0, a], field, retain_graph=True)[0][0] for a in range(3)]
    torch.testing.assert_close(torch.stack(rows), polarizability(model, system)[0])


def test_dipole_of_ions_about_an_origin():
    model, system = random_model("QEq"), system_for("QEq", charge=1.0)
    moved = replace(system, positions=system.positions + 5.0)
    with torch.no_grad():
        here = molecular_dipole(model(system), origin=system.positions[:1])
        there = molecular_dipole(model(moved), origin=moved.positions[:1])
    torch.testing.assert_close(here, there, atol=1e-9, rtol=0)


def test_what_is_not_defined_is_refused():
    sqe, qeq = random_model("SplitChargeEquilibration"), random_model("QEq")
    free, bulk = system_for("", FREE), system_for("", BULK)
    with pytest.raises(PropertyUnavailableError, match="ask for the polarizability"):
        dielectric_tensor(sqe, free)
    with pytest.raises(PropertyUnavailableError, match="takes no field in periodic"):
        dielectric_tensor(qeq, bulk)
    with pytest.raises(PropertyUnavailableError, match="isolated system has no cell"):
        energy_and_forces(sqe, free, stress=True)
    with torch.no_grad():
        prediction = sqe(bulk)
    with pytest.raises(PropertyUnavailableError, match="charged cell depends on the origin"):
        polarisation(sqe, prediction, system_for("", BULK, charge=1.0))
    with pytest.raises(PropertyUnavailableError, match="no polarisation in a periodic cell"):
        polarisation(qeq, prediction, bulk)
    volume = float(bulk.volume)
    torch.testing.assert_close(
        polarisation(sqe, prediction, bulk), prediction.dipole / volume, rtol=1e-12, atol=0
    )
