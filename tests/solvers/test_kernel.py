"""Kept inverses: exact where they can be, good where charge sloshes; matrices learn."""

import pytest
import torch

from asesc.solvers.jacobian import Jacobian
from asesc.solvers.kernel import DenseKernel, LowRankKernel, kernel_from, krylov_kernel

N, M = 50, 4


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def sloshing(largest: float) -> torch.Tensor:
    """1 + Σ_m λ/m² of standing waves, as a metal slab of growing thickness has it."""
    waves = torch.linalg.qr(normal(N * M, 40))[0]
    strength = largest / torch.arange(1, 41, dtype=torch.float64) ** 2
    skew = 0.02 * normal(N * M, N * M, seed=1) / (N * M) ** 0.5
    return torch.eye(N * M, dtype=torch.float64) + waves * strength @ waves.T + skew


def jacobian_of(matrix: torch.Tensor, rows: int = N) -> Jacobian:
    x = torch.zeros(rows, len(matrix) // rows, dtype=torch.float64)
    return Jacobian(lambda p: (matrix @ p.flatten()).view_as(p), x)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_inverse_where_the_space_is_whole(transposed):
    matrix = torch.diag(torch.tensor([1.0, 5.0, 20.0, 50.0], dtype=torch.float64))
    matrix = matrix + 0.5 * normal(4, 4)
    residual = normal(1, 4, seed=2)
    expected = torch.linalg.solve(matrix.T if transposed else matrix, residual.flatten())
    krylov = krylov_kernel(jacobian_of(matrix, rows=1), normal(1, 4, seed=3))
    for kernel in (DenseKernel(torch.linalg.inv(matrix)), krylov):
        found = kernel.apply(residual, transposed=transposed).flatten()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_its_own_residual_is_solved():
    matrix, seed = sloshing(50.0), normal(N, M, seed=2)
    kernel = krylov_kernel(jacobian_of(matrix), seed)
    left = seed.flatten() - matrix @ kernel.apply(seed).flatten()
    assert left.norm() < 1e-3 * seed.norm()
    assert len(kernel.left) < 20


def test_a_structure_that_does_not_move():
    matrix = sloshing(5.0)
    kernel = krylov_kernel(jacobian_of(matrix), torch.zeros(N, M, dtype=torch.float64))
    step = kernel.apply(normal(N, M))
    assert (normal(N * M) - matrix @ step.flatten()).norm() < 0.5 * step.norm()


@pytest.mark.parametrize("transposed", [False, True])
def test_sloshing_charge_is_caught_for_residuals_to_come(transposed):
    """A number that is stable for eigenvalues up to 50 leaves nearly all of a residual."""
    matrix, seed, error = sloshing(50.0), normal(N, M, seed=2), normal(N * M, seed=3)
    kernel = krylov_kernel(jacobian_of(matrix), seed)
    matrix = matrix.T if transposed else matrix
    for residual in (error, matrix @ error):  # any, and one that a wrong density leaves
        step = kernel.apply(residual, transposed=transposed)
        assert (residual - matrix @ step).norm() < 0.3 * residual.norm()
    assert (error - matrix @ error * (2 / 52)).norm() > 0.8 * error.norm()


def test_updates_of_a_matrix():
    """The change of the residual is mapped to the step that made it, and nothing else is lost."""
    matrix = sloshing(5.0)
    kernel = DenseKernel(torch.linalg.inv(matrix) + 1e-3 * normal(N * M, N * M, seed=5))
    seed = normal(N, M, seed=2)
    for k in range(5):
        step = -kernel.apply(normal(N, M, seed=10 + k))
        change = (matrix @ step.flatten()).view_as(step)
        kernel = kernel.updated(step, change)
        torch.testing.assert_close(kernel.apply(change), step, rtol=1e-10, atol=1e-10)
    left = seed.flatten() - matrix @ kernel.apply(seed).flatten()
    assert left.norm() < 0.1 * seed.norm()


def test_an_update_that_would_divide_by_nothing_is_left_out():
    kernel = DenseKernel(torch.eye(4, dtype=torch.float64))
    step, change = torch.eye(4, dtype=torch.float64)[:2].view(2, 2, 2)
    assert kernel.updated(step, change) is kernel


@pytest.mark.parametrize("rank", [None, 3])
def test_tensors_make_the_same_kernel(rank):
    kernel = DenseKernel(normal(8, 8))
    if rank is not None:
        kernel = LowRankKernel(normal(1)[0], normal(rank, 8), normal(rank, 8, seed=1))
    again, residual = kernel_from(kernel.tensors()), normal(4, 2, seed=2)
    assert type(again) is type(kernel)
    assert torch.equal(again.apply(residual), kernel.apply(residual))
    assert kernel_from({}) is None
