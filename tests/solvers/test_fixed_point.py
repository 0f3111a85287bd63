"""The ladder: it converges, or it raises; per structure; and it says what it did."""

import pytest
import torch
from responses import Response, layout_of

from asesc.errors import SCFError
from asesc.solvers import SCFOptions, solve_fixed_point

TOLERANCE = SCFOptions().tolerance


def solve(response: Response, start: torch.Tensor | None = None, **keywords):
    """p and the record, from zero by default."""
    start = torch.zeros_like(response.constant) if start is None else start
    return solve_fixed_point(response.residual, start, layout=response.layout, **keywords)


@pytest.mark.parametrize("radius", [5, 50, 200])
@pytest.mark.parametrize("kind", ["screening", "indefinite", "general"])
def test_linear_responses_converge_to_the_solution_of_the_linear_equations(kind, radius):
    """Where mixing by a fixed fraction diverges for every fraction (``indefinite``), too."""
    response = Response.of([8], [radius], kind=kind)
    p, solution = solve(response)
    matrix = torch.eye(16, dtype=torch.float64) - response.couplings[0]
    expected = torch.linalg.solve(matrix, response.constant.reshape(-1)).reshape(8, 2)
    smallest = float(torch.linalg.svdvals(matrix)[-1])
    torch.testing.assert_close(p, expected, atol=4 * TOLERANCE / smallest, rtol=0)
    assert solution.converged and solution.residual < TOLERANCE


@pytest.mark.parametrize("radius", [5, 50, 200])
@pytest.mark.parametrize("kind", ["screening", "indefinite", "general"])
def test_saturating_responses_converge_or_raise(kind, radius):
    response = Response.of([8], [radius], kind=kind, limit=0.3)
    try:
        p, solution = solve(response)
    except SCFError as error:
        assert kind != "screening", "a monotone response always has a way down"
        assert error.history and min(error.history) >= TOLERANCE
    else:
        assert float(response.residual(p).abs().max()) < TOLERANCE
        assert solution.converged


def test_a_mild_response_takes_few_maps():
    """|λ| ≤ 0.9: plain iteration would take about 175 maps."""
    _, solution = solve(Response.of([20], [0.9], kind="general", limit=1.0))
    assert solution.method == "Anderson"
    assert solution.iterations <= 30


@pytest.mark.parametrize("limit", [None, 0.5])
def test_structures_do_not_notice_their_partners(limit):
    """An easy and a stiff structure, of different sizes, together and alone."""
    response = Response.of([3, 7, 5], [0.5, 30.0, 2.0], limit=limit)
    counts = response.layout.mask.sum(-1).tolist()
    together, _ = solve(response)
    for b, part in enumerate(together.split(counts)):
        alone, _ = solve(response.part(b))
        torch.testing.assert_close(part, alone, atol=1e-10, rtol=0)


def test_a_hopeless_partner_is_named_and_the_others_do_not_suffer():
    """p = p + 1 has no solution; it is structure 1 that is blamed."""
    layout = layout_of(2, 2)
    shift = torch.tensor([[0.0], [0.0], [1.0], [1.0]], dtype=torch.float64)

    def residual(p: torch.Tensor) -> torch.Tensor:
        return torch.where(shift == 0, p - torch.cos(p), shift + 0 * p)

    with pytest.raises(SCFError, match=r"not reached for structure 1: residual 1\.0e\+00"):
        solve_fixed_point(residual, torch.zeros_like(shift), layout=layout)


def test_starting_at_the_solution_takes_one_map_and_near_it_few():
    response = Response.of([8, 4], [50.0, 3.0], limit=1.0)
    p, cold = solve(response)
    again, warm = solve(response, p)
    assert warm.iterations <= 2 and warm.method == "start"
    assert torch.equal(again, p)
    _, near = solve(response, p + 1e-6 * torch.randn_like(p))
    assert near.iterations < cold.iterations / 2


def test_dense_jacobians_are_used_where_they_are_small_enough():
    """Newton's method on a linear problem: one step, whatever the padding holds."""
    response = Response.of([8, 3], [200.0, 5.0])
    _, dense = solve(response, jacobian=response.jacobian)
    assert dense.method == "dense Newton" and dense.iterations == 2
    limited = SCFOptions(dense_limit=15)
    _, free = solve(response, jacobian=response.jacobian, options=limited)
    assert "dense Newton" not in [stage.name for stage in free.stages]


def test_a_singular_jacobian_is_no_end():
    """p² = 0.3 from p = 0, where ∂r/∂p = 0: the next rung goes on."""
    layout = layout_of(1)

    def residual(p: torch.Tensor) -> torch.Tensor:
        return p**2 - 0.3

    p, solution = solve_fixed_point(
        residual,
        torch.zeros(1, 1, dtype=torch.float64),
        layout=layout,
        jacobian=lambda p: 2 * p[None],
    )
    assert solution.method != "dense Newton"
    torch.testing.assert_close(p.abs(), torch.full_like(p, 0.3**0.5))


def trapped(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """A zero at p = s c, and at full strength a trap for |r| at p = 0, far from it.

    r = d + s¹² A (1 + |p|²) (1 − exp(−4|d|²)) n with d = p − s c and n across c: at s = 1 |r| has a
    minimum of about A near p = 0 and falls to zero only within half a unit of c, 3 units away. On
    the ramp, p follows s c while the trap is still open. Rows of one structure, s (1,).
    """
    c, n = torch.zeros_like(p), torch.zeros_like(p)
    c[:, 0], n[:, 1] = -(3.0**0.5), 3**-0.5
    d = p - s * c
    away = 1 - torch.exp(-4 * (d * d).sum())
    return d + 20 * s**12 * (1 + (p * p).sum()) * away * n


def test_only_the_ramp_leads_out_of_a_trap():
    start, full = torch.zeros(3, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)

    def residual(p: torch.Tensor) -> torch.Tensor:
        return trapped(p, full)

    with pytest.raises(SCFError, match="or a smaller field or charge"):
        solve_fixed_point(residual, start, layout=layout_of(3))
    p, solution = solve_fixed_point(residual, start, layout=layout_of(3), ramped=trapped)
    assert solution.method == "ramp"
    assert [stage.name for stage in solution.stages] == [
        "start",
        "Anderson",
        "Newton-Krylov",
        "ramp",
    ]
    assert [stage.converged for stage in solution.stages] == [0, 0, 0, 1]
    expected = torch.tensor([[-(3.0**0.5), 0.0]] * 3, dtype=torch.float64)
    torch.testing.assert_close(p, expected, atol=TOLERANCE, rtol=0)


def test_each_structure_climbs_the_ramp_at_its_own_pace():
    """One in the trap, one that is easy: both arrive, the easy one without the ramp."""

    def ramped(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return torch.cat([trapped(p[:3], s[:1]), p[3:] + s[1]])

    p, solution = solve_fixed_point(
        lambda p: ramped(p, torch.ones(2, dtype=p.dtype)),
        torch.zeros(5, 2, dtype=torch.float64),
        layout=layout_of(3, 2),
        ramped=ramped,
    )
    assert solution.stages[-1].name == "ramp" and solution.stages[-1].structures == 1
    torch.testing.assert_close(p[3:], -torch.ones(2, 2, dtype=torch.float64))
    torch.testing.assert_close(p[:3, 0], torch.full((3,), -(3.0**0.5), dtype=torch.float64))


def test_nan_raises_at_once_and_the_next_call_is_fine():
    response = Response.of([4, 4], [2.0, 2.0])
    calls = 0

    def broken(p: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        r = response.residual(p)
        if calls == 3:
            r[5, 0] = torch.nan
        return r

    start = torch.zeros_like(response.constant)
    with pytest.raises(SCFError, match="structure 1 met numbers that are not finite") as error:
        solve_fixed_point(broken, start, layout=response.layout)
    assert calls == 3 and len(error.value.history) == 3
    solve(response)


def test_the_implied_energy_error_has_to_be_small_too():
    """A steep energy, 10³ eV per e of residual: the density must be better than its tolerance."""
    response = Response.of([5], [3.0], limit=1.0)

    def energy_error(r: torch.Tensor) -> torch.Tensor:
        return 1e3 * r.abs().sum()[None]

    p, tight = solve(response, energy_error=energy_error)
    _, loose = solve(response)
    assert float(1e3 * response.residual(p).abs().sum()) < SCFOptions().energy_tolerance
    assert tight.residual < 1e-10
    assert tight.iterations > loose.iterations


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_values_are_not_limited(scale):
    """Charges of 10⁴ e and potentials to match are as good as small ones."""
    response = Response.of([6], [20.0])
    scaled = Response(response.layout, response.couplings, scale * response.constant)
    p, _ = solve(scaled)
    reference, _ = solve(response)
    torch.testing.assert_close(p, scale * reference, atol=1e-7, rtol=1e-7)


def test_the_record_counts_everything():
    response = Response.of([8], [200.0], limit=0.3)
    calls = 0

    def counting(p: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return response.residual(p)

    start = torch.zeros_like(response.constant)
    _, solution = solve_fixed_point(counting, start, layout=response.layout)
    maps = sum(stage.maps for stage in solution.stages)
    assert maps == calls == len(solution.history)
    assert solution.iterations == maps + sum(stage.products for stage in solution.stages)
    assert solution.stages[0].name == "start"
    assert "\n" not in str(solution)
    assert len(solution.report().splitlines()) == 1 + len(solution.stages)


def test_a_budget_that_is_too_small_is_an_error_that_says_so():
    response = Response.of([8], [200.0], limit=0.3)
    with pytest.raises(SCFError, match=r"allow more maps, scf=\{'max_maps': 40\}") as error:
        solve(response, options=SCFOptions(max_maps=10))
    assert "Tried: start: 0 of 1 converged, 1 maps" in str(error.value)
    assert len(error.value.history) == 10


def test_a_result_carries_no_graph():
    response = Response.of([4], [5.0])
    constant = response.constant.clone().requires_grad_()
    with_graph = Response(response.layout, response.couplings, constant)
    p, _ = solve(with_graph, torch.zeros(4, 2, dtype=torch.float64))
    assert not p.requires_grad
