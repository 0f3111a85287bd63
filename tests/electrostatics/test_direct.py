"""The matrix of all pairs, made in strips: the same matrix and the same derivatives."""

from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from asesc.density import GaussianBasis
from asesc.electrostatics import direct
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
    monkeypatch.setattr(direct, "_STRIP_PAIRS", 11)
    if request.param == "recomputed":
        monkeypatch.setattr(direct, "_KEPT_PAIRS", 0)


@pytest.mark.parametrize("lmax", [0, 1, 2])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_strips_make_the_whole_matrix(in_strips, lmax, factor):
    system = example_system((1,) * 7, OPEN)
    basis = basis_of(system, lmax)
    assert len(direct._cuts(1, 7, factor == 1)) > 3
    matrix = direct._pair_blocks(system, basis, factor)
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


def test_derivatives_of_two_orders(in_strips):
    """Energies of a padded batch in the positions."""
    system = two_structures(3)
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(system.n_atoms, 4, dtype=torch.float64, generator=generator)

    def energy(positions: torch.Tensor) -> torch.Tensor:
        moved = replace(system, positions=positions)
        return DirectCoulomb(moved, basis_of(system)).energy(p)

    positions = system.positions.clone().requires_grad_()
    assert gradcheck(energy, (positions,))
    assert gradgradcheck(energy, (positions,))


def test_intermediate_numbers_of_large_structures_are_not_kept(monkeypatch):
    """What autograd keeps for a backward pass does not grow beyond the matrix itself."""
    system = example_system((1,) * 24, OPEN)
    monkeypatch.setattr(direct, "_STRIP_PAIRS", 48)

    def kept() -> int:
        positions = system.positions.clone().requires_grad_()
        sizes = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            operator = DirectCoulomb(replace(system, positions=positions), basis_of(system))
        assert operator.dense().requires_grad
        return sum(sizes.values())

    pairs = 24 * 24
    assert kept() > 8 * pairs
    monkeypatch.setattr(direct, "_KEPT_PAIRS", 0)
    assert kept() < pairs
