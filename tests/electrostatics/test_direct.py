"""The matrix of all pairs, made in strips: the same matrix and the same derivatives."""

from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from asesc.density import GaussianBasis
from asesc.electrostatics import direct, pair_sums
from asesc.electrostatics.direct import DirectCoulomb
from asesc.electrostatics.gaussian import pair_interaction
from asesc.system import System
from asesc.testing import example_system

OPEN = (False, False, False)


def two_structures(n: int = 5) -> System:
    """Of n and n − 2 atoms, so that the second one is padded."""
    one, two = (example_system((1,) * k, OPEN, seed=k) for k in (n, n - 2))
    joined = {
        name: torch.cat([getattr(one, name), getattr(two, name)])
        for name in ("positions", "numbers", "cell", "charge", "electric_field")
    }
    batch = torch.tensor([0] * n + [1] * (n - 2))
    return replace(one, **joined, batch=batch)


def basis_of(system: System, lmax: int = 1) -> GaussianBasis:
    return GaussianBasis(lmax, 0.8 + 0.05 * torch.arange(system.n_atoms, dtype=torch.float64))


def all_at_once(system: System, basis: GaussianBasis) -> torch.Tensor:
    """Every block of one structure, pair by pair."""
    separation = system.positions[:, None] - system.positions
    width2 = basis.widths[:, None] ** 2 + basis.widths**2
    blocks = pair_interaction(separation, width2, basis.lmax)
    return blocks.transpose(1, 2).reshape(1, len(separation) * blocks.shape[-1], -1)


@pytest.fixture(params=["kept", "recomputed"])
def in_strips(request, monkeypatch):
    """Strips of few rows, the last one shorter than the others."""
    monkeypatch.setattr(pair_sums, "STRIP_PAIRS", 11)
    if request.param == "recomputed":
        monkeypatch.setattr(direct, "_KEPT_PAIRS", 0)


@pytest.mark.parametrize("lmax", [0, 1, 2])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_strips_make_the_whole_matrix(in_strips, lmax, factor):
    system = example_system((1,) * 7, OPEN)
    basis = basis_of(system, lmax)
    assert len(pair_sums.cuts(1, 7, is_symmetric=factor == 1)) > 3
    matrix = direct._pair_blocks(DirectCoulomb(system, basis)._geometry, factor)
    if factor == 1:
        torch.testing.assert_close(matrix, all_at_once(system, basis), rtol=1e-12, atol=1e-12)
    whole = direct._strip(
        system.positions[None],
        basis.widths[None] ** 2,
        system.layout,
        slice(0, 7),
        slice(0, None),
        factor,
        lmax,
    )
    torch.testing.assert_close(matrix, whole, rtol=1e-12, atol=1e-12)


def random_density(system: System, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(system.n_atoms, 4, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("through", ["energy", "potential", "matrix"])
@pytest.mark.parametrize("answers", [False, True])
def test_derivatives_of_two_orders(in_strips, through, answers):
    """Energies of a padded batch in positions and density, by each way there is.

    Also of a density that follows the positions, by the potential of another one.
    """
    system = two_structures(3)
    u = random_density(system, 1)

    def value(positions: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        operator = DirectCoulomb(replace(system, positions=positions), basis_of(system))
        if answers:
            p = p - 0.1 * operator.potential(p).sin()
        if through == "energy":
            return operator.energy(p)
        if through == "potential":
            return (u * operator.potential(p)).sum()
        rows = operator.system.layout.pad(p).flatten(1)
        return torch.einsum("bi,bij,bj->b", rows, operator.dense(), rows)

    inputs = [x.clone().requires_grad_() for x in (system.positions, random_density(system))]
    # Sums and matrix, of which the number of applications decides, differ by rounding.
    assert gradcheck(value, inputs, nondet_tol=1e-12)
    assert gradgradcheck(value, inputs, nondet_tol=1e-12)


def test_a_matrix_made_without_graph_gets_one_where_it_is_differentiated():
    system = two_structures(4)
    positions = system.positions.clone().requires_grad_()
    operator = DirectCoulomb(replace(system, positions=positions), basis_of(system))
    with torch.no_grad():
        bare = operator.dense()
    assert not bare.requires_grad and operator.dense().requires_grad
    assert torch.equal(bare, operator.dense())


def test_many_applications_are_those_of_the_matrix():
    system = two_structures(4)
    operator, p = DirectCoulomb(system, basis_of(system)), random_density(system)
    few = [operator.potential(p) for _ in range(direct._FEW)]
    assert operator._blocks is None
    many = operator.potential(p)
    assert operator._blocks is not None
    for v in few:
        torch.testing.assert_close(v, many, rtol=1e-12, atol=1e-12)


def test_intermediate_numbers_of_large_structures_are_not_kept(monkeypatch):
    """What autograd keeps for a backward pass does not grow beyond the matrix itself."""
    system = example_system((1,) * 24, OPEN)
    monkeypatch.setattr(pair_sums, "STRIP_PAIRS", 48)

    def kept() -> int:
        positions = system.positions.clone().requires_grad_()
        sizes = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        operator = DirectCoulomb(replace(system, positions=positions), basis_of(system))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            assert operator.dense().requires_grad
        return sum(sizes.values())

    pairs = 24 * 24
    assert kept() > 8 * pairs
    monkeypatch.setattr(direct, "_KEPT_PAIRS", 0)
    assert kept() < pairs
