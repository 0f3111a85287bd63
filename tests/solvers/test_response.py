"""(1 + S K) p = b: the dense answer, batches, starts, transposes and refusals."""

import pytest
import torch

from asesc.errors import IllPosedError, SCFError
from asesc.solvers import SCFOptions, response_inverse, solve_response
from asesc.system import BlockLayout

COUNTS = (6, 3)
TIGHT = SCFOptions(tolerance=1e-12)


def layout() -> BlockLayout:
    counts = torch.tensor(COUNTS)
    return BlockLayout(torch.repeat_interleave(torch.arange(2), counts), counts)


def laplacian(n: int, generator: torch.Generator) -> torch.Tensor:
    """Edge conductances between all atoms, and a polarisability: what SQE has."""
    g = torch.rand(n, n, dtype=torch.float64, generator=generator)
    g = g + g.T
    return torch.diag(g.sum(1)) - g


def matrices() -> tuple[torch.Tensor, torch.Tensor]:
    """S and K of both structures as one block-diagonal matrix over (atom, component)."""
    generator = torch.Generator().manual_seed(0)
    s, k = [], []
    for n in COUNTS:
        alpha = torch.rand(n, dtype=torch.float64, generator=generator)
        both = torch.zeros(n, 2, n, 2, dtype=torch.float64)
        both[:, 0, :, 0], both[:, 1, :, 1] = laplacian(n, generator), torch.diag(alpha)
        s.append(both.reshape(2 * n, 2 * n))
        root = torch.randn(2 * n, 2 * n, dtype=torch.float64, generator=generator)
        k.append(root @ root.T + 0.1 * torch.eye(2 * n, dtype=torch.float64))
    return torch.block_diag(*s), torch.block_diag(*k)


S, K = matrices()
B = torch.randn(sum(COUNTS), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def product(matrix: torch.Tensor):
    return lambda rows: (matrix @ rows.flatten()).view_as(rows)


def test_the_dense_answer_from_any_start():
    dense = torch.linalg.solve(torch.eye(len(S), dtype=torch.float64) + S @ K, B.flatten())
    near = dense.view_as(B) + 1e-6 * product(S)(torch.randn_like(B))
    for start in (None, near):
        p, solution = solve_response(
            product(S), product(K), B, layout=layout(), start=start, options=TIGHT
        )
        torch.testing.assert_close(p.flatten(), dense, atol=1e-10, rtol=0)
        assert solution.converged and solution.residual < 1e-12
        assert len(solution.history) == solution.iterations
        # Where charges flow their sum does not: that of p is that of b.
        torch.testing.assert_close(p[:6, 0].sum(), B[:6, 0].sum(), atol=1e-11, rtol=0)
    assert solve_response(product(S), product(K), B, layout=layout(), start=p)[1].iterations == 1


def test_indefinite_along_the_net_charge_is_no_obstacle():
    """The Coulomb operator of a charged slab is negative there."""
    ones = torch.zeros(sum(COUNTS), 2, dtype=torch.float64)
    ones[:6, 0] = 1
    shifted = K - 50 * torch.outer(ones.flatten(), ones.flatten())
    assert float(torch.linalg.eigvalsh(shifted)[0]) < 0
    p, _ = solve_response(product(S), product(shifted), B, layout=layout(), options=TIGHT)
    dense = torch.linalg.solve(torch.eye(len(S), dtype=torch.float64) + S @ shifted, B.flatten())
    torch.testing.assert_close(p.flatten(), dense, atol=1e-9, rtol=0)


def test_inverse_and_its_transpose():
    inverse = response_inverse(product(S), product(K), layout=layout(), options=TIGHT)
    whole = torch.linalg.inv(torch.eye(len(S), dtype=torch.float64) + S @ K)
    torch.testing.assert_close(inverse(B, False), product(whole)(B), atol=1e-9, rtol=0)
    torch.testing.assert_close(inverse(B, True), product(whole.T)(B), atol=1e-9, rtol=0)


def test_refusals():
    with pytest.raises(IllPosedError, match="structure 0 has the energy -"):
        solve_response(product(S), product(-K), B, layout=layout())
    with pytest.raises(IllPosedError, match="structure 0 has the energy nan"):
        solve_response(product(S), lambda rows: rows * torch.nan, B, layout=layout(), start=B)
    with pytest.raises(SCFError, match=r"after 3 maps. Allow more"):
        solve_response(product(S), product(K), B, layout=layout(), options=SCFOptions(max_maps=3))
