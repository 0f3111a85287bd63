"""Linear solves by products: right answers, no breakdown, exact products."""

import torch
from responses import Response, coupling

from asesc.solvers.jacobian import Jacobian
from asesc.solvers.krylov import solve_krylov
from asesc.solvers.subspace import Subspace


def apply_to_rows(matrices: torch.Tensor):
    """v → A_b v_b for every structure."""
    return lambda v: (matrices @ v[..., None])[..., 0]


def test_solutions_are_those_of_the_dense_solver():
    matrices = torch.stack(
        [
            torch.eye(12, dtype=torch.float64) - coupling(12, radius, kind, seed=3)
            for radius, kind in ((0.9, "general"), (50.0, "screening"), (20.0, "indefinite"))
        ]
    )
    rhs = torch.randn(3, 12, dtype=torch.float64)
    target = torch.full((3,), 1e-11, dtype=torch.float64)
    s, rest = solve_krylov(apply_to_rows(matrices), rhs, target=target, max_products=40)
    torch.testing.assert_close(s, torch.linalg.solve(matrices, rhs), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rest, rhs - apply_to_rows(matrices)(s), atol=1e-10, rtol=0)


def test_no_breakdown_where_a_vector_and_its_image_are_orthogonal():
    """Rotations by 90°: ⟨r, A r⟩ = 0, so that r alone never is a useful direction."""
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    matrices = torch.block_diag(quarter, 3 * quarter)[None]
    rhs = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    target = torch.tensor([1e-12], dtype=torch.float64)
    s, _ = solve_krylov(apply_to_rows(matrices), rhs, target=target, max_products=8)
    torch.testing.assert_close(s, torch.linalg.solve(matrices, rhs))


def test_the_exact_inverse_as_preconditioner_needs_one_product():
    matrix = (torch.eye(9, dtype=torch.float64) - coupling(9, 200.0, "general"))[None]
    inverse = torch.linalg.inv(matrix)
    products = 0

    def apply(v: torch.Tensor) -> torch.Tensor:
        nonlocal products
        products += 1
        return apply_to_rows(matrix)(v)

    rhs = torch.randn(1, 9, dtype=torch.float64)
    target = torch.tensor([1e-9], dtype=torch.float64)
    solve_krylov(apply, rhs, target=target, max_products=9, precondition=apply_to_rows(inverse))
    assert products == 1


def test_structures_that_are_done_stay_done():
    """A structure that converges at once is not touched while another takes all its steps."""
    matrices = torch.stack(
        [torch.eye(12, dtype=torch.float64), torch.eye(12) - coupling(12, 50.0, "general")]
    )
    rhs = torch.randn(2, 12, dtype=torch.float64)
    target = torch.full((2,), 1e-10, dtype=torch.float64)
    s, _ = solve_krylov(apply_to_rows(matrices), rhs, target=target, max_products=20)
    torch.testing.assert_close(s[0], rhs[0], atol=1e-15, rtol=1e-15)


def test_a_subspace_forgets_its_oldest_pairs_and_those_it_is_told_to():
    pairs = Subspace(2)
    unit = torch.eye(3, dtype=torch.float64)
    for k in range(3):
        pairs.add(unit[k].expand(2, 3), 2 * unit[k].expand(2, 3))
    vector = torch.ones(2, 3, dtype=torch.float64)
    known, rest = pairs.precondition(vector)
    torch.testing.assert_close(known, torch.tensor([[0, 0.5, 0.5]] * 2, dtype=torch.float64))
    torch.testing.assert_close(rest, torch.tensor([[1.0, 0, 0]] * 2, dtype=torch.float64))
    pairs.forget(torch.tensor([True, False]))
    known, rest = pairs.precondition(vector)
    assert torch.equal(rest[0], vector[0]) and float(known[0].abs().max()) == 0
    assert float(rest[1].abs().sum()) == 1


def test_products_are_those_of_the_dense_jacobian():
    response = Response.of([3], [5.0], kind="general", limit=0.5)
    p, v = torch.randn(2, 3, 2, dtype=torch.float64)
    dense = torch.autograd.functional.jacobian(response.residual, p).reshape(6, 6)
    jacobian = Jacobian(response.residual, p)
    torch.testing.assert_close(jacobian.apply(v).reshape(-1), dense @ v.reshape(-1))
    torch.testing.assert_close(jacobian.apply_transposed(v).reshape(-1), dense.T @ v.reshape(-1))
