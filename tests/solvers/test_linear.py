"""Constrained quadratic minima: derivatives of two orders, constraint, agreement, refusals."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from asesc.errors import IllPosedError
from asesc.solvers import (
    READ_OUT,
    Solution,
    minimise_quadratic_cg,
    minimise_quadratic_dense,
    solve_linear,
)
from asesc.system import BlockLayout


def problem(n: int = 5, blocks: int = 2, *, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """A (B, n, n) positive definite, b, constraint c and target t."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(blocks, n, n, dtype=torch.float64, generator=generator)
    matrix = root @ root.transpose(1, 2) + torch.eye(n, dtype=torch.float64)
    b, c = torch.randn(2, blocks, n, dtype=torch.float64, generator=generator)
    return matrix, b, c, torch.randn(blocks, dtype=torch.float64, generator=generator)


def with_gradients(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(t.clone().requires_grad_() for t in tensors)


def symmetric(matrix: torch.Tensor) -> torch.Tensor:
    return 0.5 * (matrix + matrix.transpose(-1, -2))


def solve_rows(matrix: torch.Tensor, rhs: torch.Tensor) -> tuple[torch.Tensor, Solution]:
    """A x = b for blocks of unequal size: rows (N, 2) of 3 and 2 atoms, A padded with ones."""
    counts = torch.tensor([3, 2])
    layout = BlockLayout(torch.repeat_interleave(torch.arange(2), counts), counts)
    inside = layout.pad(torch.ones_like(rhs)).flatten(1)
    block = matrix * inside[:, :, None] * inside[:, None] + torch.diag_embed(1 - inside)

    def residual(x: torch.Tensor) -> torch.Tensor:
        product = (block @ layout.pad(x).flatten(1)[..., None]).reshape(2, 3, 2)
        return layout.unpad(product) - rhs

    return solve_linear(residual, torch.zeros_like(rhs), layout=layout, jacobian=block.detach())


def test_linear_solve_and_its_derivatives():
    matrix = problem(6)[0] + torch.randn(2, 6, 6, dtype=torch.float64)  # not symmetric
    rhs = torch.randn(5, 2, dtype=torch.float64)
    x, solution = solve_rows(matrix, rhs)
    torch.testing.assert_close((matrix[0] @ x[:3].flatten()).reshape(3, 2), rhs[:3])
    torch.testing.assert_close((matrix[1, :4, :4] @ x[3:].flatten()).reshape(2, 2), rhs[3:])
    assert solution.residual < 1e-12
    inputs = with_gradients(matrix, rhs)
    assert gradcheck(lambda a, b: solve_rows(a, b)[0], inputs)
    assert gradgradcheck(lambda a, b: solve_rows(a, b)[0], inputs)


def test_minimum_obeys_constraint_and_stationarity():
    matrix, b, c, t = problem()
    x, multiplier, solution = minimise_quadratic_dense(matrix, b, c, t)
    torch.testing.assert_close((c * x).sum(-1), t, atol=1e-12, rtol=0)
    gradient = (matrix @ x[..., None])[..., 0] + b + multiplier[:, None] * c
    assert float(gradient.abs().max()) < 1e-12
    assert solution.residual < 1e-12
    # Any step along the constraint raises the energy.
    step = torch.randn_like(x)
    step = step - c * (c * step).sum(-1, keepdim=True) / (c * c).sum(-1, keepdim=True)

    def energy(y: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.einsum("bi,bij,bj->b", y, matrix, y) + (b * y).sum(-1)

    assert bool((energy(x + 0.01 * step) > energy(x)).all())
    assert bool((energy(x - 0.01 * step) > energy(x)).all())


def test_multiplier_is_minus_the_slope_in_the_target():
    matrix, b, c, t = problem()
    target = t.clone().requires_grad_()
    x, multiplier, _ = minimise_quadratic_dense(matrix, b, c, target)
    energy = 0.5 * torch.einsum("bi,bij,bj->b", x, matrix, x) + (b * x).sum(-1)
    (slope,) = torch.autograd.grad(energy.sum(), target)
    torch.testing.assert_close(slope, -multiplier)


def test_derivatives_of_the_dense_minimum():
    matrix, b, c, t = problem(3)

    def solve(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return minimise_quadratic_dense(symmetric(a), b, c, t)[:2]

    inputs = with_gradients(matrix, b, t)
    assert gradcheck(solve, inputs)
    assert gradgradcheck(solve, inputs)


def test_indefinite_off_the_plane_is_no_obstacle():
    """The Coulomb matrix of a charged slab is negative along the net charge."""
    matrix, b, _, t = problem()
    c = torch.ones_like(b)
    expected, _, _ = minimise_quadratic_dense(matrix, b, c, torch.zeros_like(t))
    shifted = matrix - 50 * torch.ones_like(matrix)
    assert float(torch.linalg.eigvalsh(shifted)[0, 0]) < 0
    x, _, _ = minimise_quadratic_dense(shifted, b, c, torch.zeros_like(t))
    torch.testing.assert_close(x, expected)


def test_conjugate_gradients_find_the_dense_minimum():
    matrix, b, c, t = (v[0] for v in problem(30, 1, seed=3))
    dense, force, _ = minimise_quadratic_dense(matrix[None], b[None], c[None], t[None])
    diagonal = matrix.diagonal()
    for precondition in (None, lambda r: r / diagonal):
        x, multiplier, solution = minimise_quadratic_cg(
            lambda p: matrix @ p, b, c, t, precondition=precondition, tolerance=1e-11
        )
        torch.testing.assert_close(x, dense[0], atol=1e-9, rtol=0)
        torch.testing.assert_close(multiplier, force[0], atol=1e-9, rtol=0)
        assert abs(float(c @ x - t)) < 1e-12
        assert solution.converged and solution.iterations <= 60
        assert len(solution.history) == solution.iterations + 1


def test_conjugate_gradients_keep_the_constraint_when_overdone():
    """Iterating far below rounding must not leak charge (a known failure of projected CG)."""
    matrix, b, _, t = (v[0] for v in problem(40, 1, seed=1))
    c = torch.ones_like(b)
    scale = torch.logspace(-2, 2, 40, dtype=torch.float64)
    stiff = scale[:, None] * matrix * scale
    x, _, _ = minimise_quadratic_cg(
        lambda p: stiff @ p,
        b,
        c,
        t,
        precondition=lambda r: r / stiff.diagonal(),
        tolerance=1e-9,
        max_iterations=4000,
    )
    assert abs(float(x.sum() - t)) < 1e-11


def test_derivatives_of_conjugate_gradients():
    matrix, b, c, t = (v[0] for v in problem(4, 1))

    def solve(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        sym = symmetric(a)
        return minimise_quadratic_cg(lambda p: sym @ p, b, c, t, tolerance=1e-13)[:2]

    inputs = with_gradients(matrix, b, t)
    assert gradcheck(solve, inputs)
    assert gradgradcheck(solve, inputs)


def test_no_minimum_is_refused():
    matrix, b, c, t = problem()
    negative = matrix.clone()
    negative[1] = -negative[1]
    with pytest.raises(IllPosedError, match=r"structure 1 has no minimum: lowest curvature -"):
        minimise_quadratic_dense(negative, b, c, t)
    with pytest.raises(IllPosedError, match="along a search direction"):
        minimise_quadratic_cg(lambda p: -matrix[0] @ p, b[0], c[0], t[0])


def test_singular_and_non_finite_systems_are_refused():
    matrix, b, c, t = problem()
    singular = matrix.clone()
    singular[0, :, 0] = 0
    rows = torch.ones(10, 1, dtype=torch.float64)
    layout = BlockLayout(torch.arange(10) // 5, torch.tensor([5, 5]))

    def solve(matrix: torch.Tensor) -> None:
        def residual(x: torch.Tensor) -> torch.Tensor:
            return layout.unpad(matrix @ layout.pad(x)) - rows

        solve_linear(residual, torch.zeros_like(rows), layout=layout, jacobian=matrix)

    with pytest.raises(IllPosedError, match=r"response of structure 0 .* infinite"):
        solve(singular)
    with pytest.raises(IllPosedError, match="NaN or infinite"):
        solve(torch.full_like(matrix, float("nan")))
    b[0, 0] = float("nan")
    with pytest.raises(IllPosedError, match="NaN or infinite"):
        minimise_quadratic_dense(matrix, b, c, t)
    with pytest.raises(IllPosedError, match="NaN or infinite"):
        minimise_quadratic_cg(lambda p: matrix[0] @ p, b[0], c[0], t[0])


def test_too_few_iterations_are_an_error():
    matrix, b, c, t = (v[0] for v in problem(30, 1))
    with pytest.raises(IllPosedError, match=r"stopped at residual .* after 3 iterations"):
        minimise_quadratic_cg(lambda p: matrix @ p, b, c, t, max_iterations=3)


def test_report_is_one_line():
    assert str(READ_OUT) == "read out: converged after 0 iterations, residual 0.0e+00"
    text = str(Solution("projected CG", False, 1, 0.25))
    assert text == "projected CG: NOT converged after 1 iteration, residual 2.5e-01"
