"""Derivatives of a solution: two orders, dense and matrix-free, at a cost that is fixed."""

import pytest
import torch
from responses import Response, graph_size, layout_of
from torch.autograd import gradcheck, gradgradcheck

from asesc.errors import IllPosedError, SCFError
from asesc.solvers import (
    SCFOptions,
    attach_derivatives,
    frozen_jacobian,
    minimise,
    solve_fixed_point,
)

TIGHT = SCFOptions(tolerance=1e-12)


def solution_of(response: Response, constant: torch.Tensor, dense: bool) -> torch.Tensor:
    """The fixed point as a differentiable function of p₀."""
    response = Response(response.layout, response.couplings, constant, response.limit)
    jacobian = response.jacobian if dense else None
    p, _ = solve_fixed_point(
        response.residual,
        torch.zeros_like(constant.detach()),
        layout=response.layout,
        options=TIGHT,
        jacobian=jacobian,
    )
    inverse = frozen_jacobian(response.residual, p, layout=response.layout, jacobian=jacobian)
    return attach_derivatives(p, response.residual, inverse)


@pytest.mark.parametrize("dense", [False, True], ids=["products", "dense"])
@pytest.mark.parametrize("kind", ["screening", "general"])
def test_two_orders_of_derivatives(dense, kind):
    """``general``: the Jacobian is not symmetric, so that J and Jᵀ must not be confused."""
    response = Response.of([2, 1], [3.0, 0.8], kind=kind, components=1, limit=1.0)
    constant = response.constant.clone().requires_grad_()

    def solve(constant: torch.Tensor) -> torch.Tensor:
        return solution_of(response, constant, dense)

    assert gradcheck(solve, constant)
    assert gradgradcheck(solve, constant)


def test_products_and_factors_agree_on_stiff_responses():
    """Spectral radius 200: all derivatives of a scalar, to the accuracy of the linear solves."""
    response = Response.of([6, 4], [200.0, 20.0], limit=1.0)
    gradients = []
    for dense in (True, False):
        constant = response.constant.clone().requires_grad_()
        p = solution_of(response, constant, dense)
        (first,) = torch.autograd.grad((p**3).sum(), constant, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), constant)
        gradients.append((first.detach(), second))
    for free, factored in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(free, factored, rtol=1e-7, atol=1e-9)


def test_the_graph_does_not_grow_with_the_iterations():
    """Started far away and started at the solution, the density carries the same graph."""
    response = Response.of([8], [200.0], limit=0.3)
    constant = response.constant.clone().requires_grad_()
    live = Response(response.layout, response.couplings, constant, response.limit)
    layout, sizes, maps = response.layout, [], []
    start = torch.zeros_like(response.constant)
    for _ in range(2):
        p, solution = solve_fixed_point(live.residual, start, layout=layout)
        inverse = frozen_jacobian(live.residual, p, layout=layout)
        sizes.append(graph_size(attach_derivatives(p, live.residual, inverse)))
        maps.append(solution.iterations)
        start = p
    assert maps[0] > 20 * maps[1]
    assert sizes[0] == sizes[1]


def test_equal_vectors_have_equal_answers():
    response = Response.of([6], [20.0], kind="general")
    p = response.constant
    inverse = frozen_jacobian(response.residual, p, layout=response.layout)
    v, w = torch.randn(2, *p.shape, dtype=torch.float64)
    first = inverse(v, True)
    inverse(w, True)
    assert torch.equal(inverse(v, True), first)


def test_a_vanishing_response_is_refused():
    """∂r/∂p = 0 at a fold: the solution is about to disappear."""
    layout = layout_of(1)
    p = torch.zeros(1, 1, dtype=torch.float64)
    with pytest.raises(IllPosedError, match="about to disappear"):
        frozen_jacobian(lambda p: p**2, p, layout=layout, jacobian=lambda p: 2 * p[None])
    few = SCFOptions(max_maps=5)
    inverse = frozen_jacobian(lambda p: p**2, p, layout=layout, options=few)
    with pytest.raises(SCFError, match="linear response did not converge"):
        inverse(torch.ones_like(p), False)


def test_derivatives_of_a_minimum():
    """The gradient of an energy is a residual like any other: x* of ½x² + ¼x⁴ − θx."""
    layout = layout_of(2, 1)
    theta = torch.tensor([[0.3], [2.0], [-1.0]], dtype=torch.float64, requires_grad=True)

    def solve(theta: torch.Tensor) -> torch.Tensor:
        def energy(x: torch.Tensor) -> torch.Tensor:
            atomic = (0.5 * x**2 + 0.25 * x**4 - theta.detach() * x).sum(-1)
            return layout.pad(atomic).sum(-1)

        x, _ = minimise(energy, torch.zeros_like(theta.detach()), layout=layout, options=TIGHT)

        def slope(x: torch.Tensor) -> torch.Tensor:
            return x + x**3 - theta

        return attach_derivatives(x, slope, frozen_jacobian(slope, x, layout=layout))

    assert gradcheck(solve, theta)
    assert gradgradcheck(solve, theta)
