"""The learned terms of an energy functional are what their docstrings prove, for any weights."""

import math

import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from asesc.models.convex import SoftRidges
from asesc.models.functionals import ConvexAtoms, ConvexEdges, LocalisedAtoms
from asesc.testing.structures import rotation

ATOMS, RIDGES = 12, 5


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_ridges(dimension, seed=0):
    slopes = 6 * normal(ATOMS, RIDGES, dimension, seed=seed)
    slopes[..., 1:] = slopes[..., 1:].abs()
    amplitude = normal(ATOMS, RIDGES, seed=seed + 1).abs()
    return SoftRidges(amplitude, slopes, 3 * normal(ATOMS, RIDGES, seed=seed + 2))


def random_atoms(lmax, seed=0):
    return ConvexAtoms(random_ridges(1 + (lmax > 0), seed), normal(ATOMS, seed=seed + 3))


def wells(lmax, seed=0):
    return LocalisedAtoms(random_atoms(lmax, seed), normal(ATOMS, seed=seed + 4).abs())


def random_edges(seed=0):
    return ConvexEdges(random_ridges(1, seed), random_ridges(1, seed + 10))


def random_density(lmax, seed=0):
    p = normal(ATOMS, (lmax + 1) ** 2, seed=100 + seed)
    return p * torch.tensor([1.5] + [0.4] * (p.shape[1] - 1), dtype=torch.float64)


def summed(functional):
    return lambda p: functional.energy(p).sum()


@pytest.mark.parametrize("make", [random_atoms, wells])
@pytest.mark.parametrize("lmax", [0, 1, 2])
def test_slope_and_curvature_are_the_derivatives_of_the_energy(make, lmax):
    functional, p = make(lmax), random_density(lmax)
    slope = jacobian(summed(functional), p)
    torch.testing.assert_close(functional.slope(p), slope, atol=1e-11, rtol=1e-11)
    # Atoms do not see each other: the whole Hessian is block diagonal.
    full = hessian(summed(functional), p)
    atom = torch.arange(ATOMS)
    torch.testing.assert_close(functional.curvature(p), full[atom, :, atom], atol=1e-10, rtol=1e-10)
    assert float(slope[:, 4:].abs().sum()) == 0  # quadrupoles are not drawn


@pytest.mark.parametrize("seed", range(5))
def test_the_atomic_functional_is_convex_in_charge_and_dipole_together(seed):
    functional = random_atoms(1, seed)
    one, two = random_density(1, seed), random_density(1, seed + 50)
    middle = functional.energy(0.5 * (one + two))
    assert bool((middle <= 0.5 * (functional.energy(one) + functional.energy(two)) + 1e-12).all())
    assert float(torch.linalg.eigvalsh(functional.curvature(one)).min()) > -1e-11


@pytest.mark.parametrize("seed", range(3))
def test_the_atomic_functional_vanishes_with_its_slope_at_the_formal_charge(seed):
    """So that it neither shifts the short-range energy nor the electronegativity."""
    functional = random_atoms(1, seed)
    rest = torch.cat([functional.centre[:, None], torch.zeros(ATOMS, 3).double()], dim=-1)
    assert float(functional.energy(rest).abs().max()) == 0
    assert float(functional.slope(rest).abs().max()) < 1e-13
    assert bool((functional.energy(random_density(1, seed)) >= 0).all())


def test_the_atomic_functional_has_no_direction():
    functional, p, turn = random_atoms(1), random_density(1), rotation()
    turned = torch.cat([p[:, :1], p[:, 1:] @ turn.T], dim=-1)
    torch.testing.assert_close(functional.energy(turned), functional.energy(p))


@pytest.mark.parametrize("seed", range(3))
def test_transfers_are_antisymmetric_and_increase_with_the_drive(seed):
    edges = random_edges(seed)
    reverse = ConvexEdges(edges.backward, edges.forward)
    drive = 4 * normal(ATOMS, seed=seed)
    torch.testing.assert_close(edges.conjugate(drive), reverse.conjugate(-drive))
    torch.testing.assert_close(edges.response(drive), -reverse.response(-drive))
    assert float(edges.response(torch.zeros(ATOMS).double()).abs().max()) < 1e-13
    assert bool((edges.gain(drive) >= 1).all())
    slope = jacobian(lambda x: edges.conjugate(x).sum(), drive)
    torch.testing.assert_close(edges.response(drive), slope, atol=1e-11, rtol=1e-11)
    gain = jacobian(edges.response, drive).diagonal()
    torch.testing.assert_close(edges.gain(drive), gain, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_the_energy_of_a_transfer_is_the_legendre_transform(seed):
    """h(t) = g[Δφ − Ψ] ≥ −tΔ' − gΨ(Δ') for every Δ', with equality at its own drive: a maximum
    over functions linear in t, hence convex in t whatever the weights.
    """
    edges, g = random_edges(seed), 0.3
    drive = 4 * normal(ATOMS, seed=seed)
    transfer = -g * edges.response(drive)
    energy = g * (drive * edges.response(drive) - edges.conjugate(drive))
    for k in range(20):
        other = drive + normal(ATOMS, seed=1000 + k)
        bound = -transfer * other - g * edges.conjugate(other)
        assert bool((energy >= bound).all())
    assert bool((energy >= 0).all())


def test_wells_cost_nothing_at_integers_and_their_height_between_them():
    plain, deep = random_atoms(0), wells(0)
    for charge, added in ((-2.0, 0.0), (0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (-1.5, 1.0)):
        p = torch.full((ATOMS, 1), charge, dtype=torch.float64)
        extra = deep.energy(p) - plain.energy(p)
        torch.testing.assert_close(extra, added * deep.height, atol=1e-12, rtol=0)
    p = torch.zeros(ATOMS, 1, dtype=torch.float64)
    stiffer = (deep.curvature(p) - plain.curvature(p))[:, 0, 0]
    torch.testing.assert_close(stiffer, 2 * math.pi**2 * deep.height)


def test_the_softplus_has_no_cut():
    """A cut at large arguments would be a jump in the energy that finite differences notice."""
    one = torch.ones(1, 1, dtype=torch.float64)
    ridge = SoftRidges(one, one[..., None], torch.zeros_like(one))
    x = torch.linspace(15, 45, 601, dtype=torch.float64)
    values = ridge.value(x[:, None])
    exact = torch.log1p(torch.exp(x)) - math.log(2) - 0.5 * x
    assert float((values - exact).abs().max()) < 1e-13
