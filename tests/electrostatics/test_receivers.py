"""Potentials on Gaussians wider than the density: one exact identity per boundary, and limits."""

from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck

from asesc.density import GaussianBasis
from asesc.electrostatics import BOUNDARIES
from asesc.electrostatics.boundary import Electrodes, Open, OpenReciprocal, Periodic, Slab
from asesc.errors import InputError
from asesc.system import System
from asesc.testing import accepted_pbc, example_system
from asesc.units import COULOMB

FREE = (False, False, False)
WIDTHS = torch.tensor([1.0, 1.3, 1.2], dtype=torch.float64)
FACTORS = (1.0, 1.6, 3.0)


def bound(boundary, pbc, *, lmax=1, widths=WIDTHS, positions=None):
    system = example_system((1, 1, 1), pbc)
    if pbc != FREE and not all(pbc):
        cell = system.cell.clone()
        cell[0, pbc.index(False)] *= 4  # room for the electrodes
        system = replace(system, cell=cell)
    if positions is not None:
        system = replace(system, positions=positions)
    return boundary.bind(system, GaussianBasis(lmax, widths), accuracy=1e-12)


def density(n: int, lmax: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(n, (lmax + 1) ** 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", BOUNDARIES)
def test_only_the_sum_of_squared_widths_matters(name):
    """γ² = f²σ² + σ² is that of a density of width σ√((1 + f²)/2): u of one is v of the other.

    Holds for one common width; the two are bound with different cells and cutoffs.
    """
    boundary = BOUNDARIES[name]()
    p = density(3, 1)
    for pbc in accepted_pbc(boundary):
        common = torch.full_like(WIDTHS, 1.1)
        u = bound(boundary, pbc, widths=common).receivers(FACTORS).potential(p)
        for column, factor in enumerate(FACTORS):
            wide = common * ((1 + factor**2) / 2) ** 0.5
            v = bound(boundary, pbc, widths=wide).potential(p)
            torch.testing.assert_close(u[:, column], v, atol=1e-9, rtol=0)


@pytest.mark.parametrize("boundary", [Open(), Periodic(), Slab(), Electrodes()])
def test_dense_blocks_and_the_density_itself(boundary):
    pbc = accepted_pbc(boundary)[0]
    operator, p = bound(boundary, pbc, lmax=2), density(3, 2)
    receivers = operator.receivers(FACTORS)
    u = receivers.potential(p)
    torch.testing.assert_close(u[:, 0], operator.potential(p), atol=1e-10, rtol=0)
    blocks = receivers.dense()
    assert blocks.shape == (1, 3, 27, 27)
    torch.testing.assert_close(
        (blocks[0] @ p.reshape(-1)).reshape(3, 3, 9).transpose(0, 1), u, atol=1e-10, rtol=0
    )
    twice = (operator + operator).receivers(FACTORS)
    torch.testing.assert_close(twice.potential(p), 2 * u)
    torch.testing.assert_close(twice.dense(), 2 * blocks)


def test_both_engines_of_the_open_boundary_agree():
    p = density(3, 1)
    pair, waves = (
        bound(b, FREE).receivers(FACTORS).potential(p) for b in (Open(), OpenReciprocal())
    )
    torch.testing.assert_close(pair, waves, atol=1e-9, rtol=0)


def test_constants_and_uniform_fields_come_out_as_themselves():
    """Far charges make V and ∇V that no average over a Gaussian changes (mean-value property):
    V in l = 0 and ∇V = −E in l = 1 for every width."""
    far = 1e4
    positions = torch.tensor([[0.0, 0, 0], [far, 0, 0], [0, far, 0]], dtype=torch.float64)
    p = torch.tensor([[0.0], [far], [-far]], dtype=torch.float64) * torch.eye(4)[0].double()
    u = bound(Open(), FREE, lmax=1, positions=positions).receivers((1.0, 2.0, 5.0)).potential(p)[0]
    torch.testing.assert_close(u[:, 0], torch.zeros(3).double(), atol=1e-9, rtol=0)
    # V = k_e Q (1/|r − x̂R| − 1/|r − ŷR|) = k_e Q (x − y)/R² + …
    gradient = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64) * COULOMB / far
    torch.testing.assert_close(u[:, 1:], gradient.expand(3, 3), atol=1e-12, rtol=0)


def test_batches_do_not_mix():
    one, two = example_system((1, 1, 1), FREE), example_system((1, 1), FREE, seed=3)
    both = System(
        positions=torch.cat([one.positions, two.positions]),
        numbers=torch.cat([one.numbers, two.numbers]),
        cell=torch.cat([one.cell, two.cell]),
        pbc=FREE,
        batch=torch.tensor([0, 0, 0, 1, 1]),
        charge=torch.zeros(2, dtype=torch.float64),
        electric_field=torch.zeros(2, 3, dtype=torch.float64),
    )
    widths = torch.cat([WIDTHS, WIDTHS[:2]])
    p = density(5, 1)

    def u(system, widths, p):
        return Open().bind(system, GaussianBasis(1, widths)).receivers(FACTORS).potential(p)

    alone = torch.cat([u(one, widths[:3], p[:3]), u(two, widths[3:], p[3:])])
    torch.testing.assert_close(u(both, widths, p), alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("boundary", [Open(), Periodic(), Slab()])
def test_derivatives_in_positions_strain_and_density(boundary):
    pbc = accepted_pbc(boundary)[0]
    system = example_system((1, 1, 1), pbc)

    def u(positions, strain, p):
        symmetric = 0.5 * (strain + strain.transpose(1, 2))
        strained = replace(system, positions=positions).strained(symmetric)
        operator = boundary.bind(strained, GaussianBasis(1, WIDTHS), accuracy=1e-13)
        return operator.receivers((2.0,)).potential(p)

    inputs = [system.positions.clone(), torch.zeros(1, 3, 3).double(), density(3, 1)]
    assert gradcheck(u, [x.requires_grad_() for x in inputs], eps=1e-5, atol=1e-7, rtol=1e-7)


def test_narrower_receivers_are_refused():
    with pytest.raises(InputError, match=r"receiver widths \[0.5\].* must be at least 1"):
        bound(Open(), FREE).receivers([0.5])
