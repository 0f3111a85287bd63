"""Minima, never saddle points; what has none is refused."""

import re

import pytest
import torch
from responses import coupling, layout_of

from asesc.errors import IllPosedError, SCFError
from asesc.solvers import SCFOptions, minimise

LAYOUT = layout_of(3, 5, 1)
COMPONENTS = 2
ZERO = torch.zeros(9, COMPONENTS, dtype=torch.float64)


def random_start(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, COMPONENTS, dtype=torch.float64, generator=generator)


def per_structure(rows: torch.Tensor) -> torch.Tensor:
    """(N, M) → (B,)."""
    return LAYOUT.pad(rows).flatten(1).sum(-1)


def hessian_of(energy):
    """Dense Hessian as blocks, with rubbish in the padding."""

    def hessian(x: torch.Tensor) -> torch.Tensor:
        whole = torch.autograd.functional.hessian(lambda y: energy(y).sum(), x)
        n_structures, n = LAYOUT.shape
        blocks = torch.full((n_structures, n * COMPONENTS, n * COMPONENTS), -7.0).to(x)
        first = 0
        for b, count in enumerate(LAYOUT.mask.sum(-1).tolist()):
            inside, size = slice(first, first + count), count * COMPONENTS
            blocks[b, :size, :size] = whole[inside, :, inside].reshape(size, size)
            first += count
        return blocks

    return hessian


def solve(energy, start: torch.Tensor, dense: bool, **keywords):
    hessian = hessian_of(energy) if dense else None
    return minimise(energy, start, layout=LAYOUT, hessian=hessian, **keywords)


def bowl(x: torch.Tensor) -> torch.Tensor:
    """Strictly convex, not quadratic, stiff: minimum away from zero."""
    scale = torch.logspace(0, 3, x.numel(), dtype=x.dtype).reshape(x.shape)
    return per_structure(scale * (torch.cosh(x - 1) + 0.1 * x))


def double_wells(x: torch.Tensor) -> torch.Tensor:
    """Wells at ±1 in every unknown; 0 is a maximum and mixtures are saddle points."""
    return per_structure((x**2 - 1) ** 2)


both = pytest.mark.parametrize("dense", [False, True], ids=["products", "dense"])


@both
@pytest.mark.parametrize("convex", [False, True])
def test_the_minimum_of_a_convex_energy(dense, convex):
    x, solution = solve(bowl, random_start(), dense, convex=convex)
    torch.testing.assert_close(x, torch.full_like(x, 1 - torch.asinh(torch.tensor(0.1)).item()))
    assert solution.converged and solution.residual < SCFOptions().tolerance


def test_a_quadratic_takes_one_newton_step():
    matrix = torch.eye(6, dtype=torch.float64) - coupling(6, 200.0, "screening")
    layout = layout_of(3)
    b = torch.randn(6, dtype=torch.float64)

    def energy(x: torch.Tensor) -> torch.Tensor:
        y = x.reshape(-1)
        return (0.5 * y @ matrix @ y + b @ y)[None]

    x, solution = minimise(
        energy,
        torch.zeros(3, 2, dtype=torch.float64),
        layout=layout,
        hessian=lambda x: matrix[None],
        convex=True,
    )
    torch.testing.assert_close(x.reshape(-1), -torch.linalg.solve(matrix, b))
    assert solution.iterations == 2


@both
@pytest.mark.parametrize("start", [ZERO, random_start(), 0.5 * random_start(3).sign()])
def test_double_wells_end_in_a_well(dense, start):
    x, _ = solve(double_wells, start, dense)
    torch.testing.assert_close(x.abs(), torch.ones_like(x))


@both
def test_a_small_radius_stays_in_the_basin_of_the_start(dense):
    """E = 1 − cos x from x = 1.5, where the slope is 1 and the curvature 0.07.

    A whole Newton step of −14 ends near −4π, where the energy is as low as at the bottom, x = 0, of
    the well of the start.
    """

    def energy(x: torch.Tensor) -> torch.Tensor:
        return per_structure(1 - torch.cos(x))

    start = ZERO + 1.5
    near, _ = solve(energy, start, dense, radius=0.1)
    torch.testing.assert_close(near, torch.zeros_like(near))
    away, _ = solve(energy, start, dense)
    assert float(away.abs().min()) > 6


@both
def test_a_saddle_point_is_left(dense):
    """E = (x² − 1)² + y² on one atom, from its saddle point (0, 0), where the gradient is zero."""
    layout = layout_of(1)

    def energy(x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2

    def hessian(x: torch.Tensor) -> torch.Tensor:
        return torch.diag_embed(torch.stack([12 * x[0, 0] ** 2 - 4, 2 + 0 * x[0, 0]]))[None]

    saddle = torch.zeros(1, 2, dtype=torch.float64)
    x, solution = minimise(energy, saddle, layout=layout, hessian=hessian if dense else None)
    torch.testing.assert_close(x.abs(), torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert "saddle points left" in solution.stages[0].note


def test_negative_curvature_between_the_atoms_is_followed():
    """One bad direction among 40, none of them an axis; both searches find the lower valley."""
    layout, n = layout_of(20), 40
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))
    values = torch.linspace(1, 50, n, dtype=torch.float64)
    values[0] = -0.5

    def energy(x: torch.Tensor) -> torch.Tensor:
        y = q.T @ x.reshape(-1)
        return (0.5 * (values * y**2).sum() + 0.25 * (y**4).sum())[None]

    start = torch.zeros(20, 2, dtype=torch.float64)
    x, _ = minimise(energy, start, layout=layout)
    # ½λy² + ¼y⁴ is least at y² = −λ.
    torch.testing.assert_close((q.T @ x.reshape(-1))[0].abs(), torch.tensor(0.5).sqrt().double())


@both
def test_a_flat_direction_is_no_obstacle(dense):
    """A constant added to all unknowns of a structure changes nothing, as for potentials."""

    def energy(x: torch.Tensor) -> torch.Tensor:
        padded = LAYOUT.pad(x).flatten(1)
        mask = LAYOUT.pad(torch.ones_like(x)).flatten(1)
        mean = padded.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)
        offset = (padded - mean) * mask
        target = torch.arange(padded.shape[1], dtype=x.dtype) * mask
        target = (target - target.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)) * mask
        return torch.cosh(offset - target).sum(-1)

    x, _ = solve(energy, random_start(), dense)
    first = LAYOUT.pad(x).flatten(1)[1]
    torch.testing.assert_close(first - first[0], torch.arange(10, dtype=torch.float64))


@both
@pytest.mark.parametrize(
    "energy",
    [
        lambda x: per_structure(x),
        lambda x: per_structure(x) + per_structure(x**2) * torch.tensor([1.0, 1.0, -1.0]),
        lambda x: per_structure(-(x**4)),
        lambda x: per_structure(-torch.cosh(x)),
    ],
    ids=["linear", "hill", "quartic", "exponential"],
)
def test_an_energy_that_falls_without_end_is_refused(energy, dense):
    with pytest.raises((IllPosedError, SCFError), match=r"no minimum|not finite"):
        solve(energy, ZERO + 0.5, dense)


@both
def test_structures_do_not_notice_their_partners(dense):
    x, _ = solve(double_wells, random_start(), dense)
    first = 0
    for b, count in enumerate(LAYOUT.mask.sum(-1).tolist()):
        layout = layout_of(count)

        def energy(y: torch.Tensor, layout=layout) -> torch.Tensor:
            return layout.pad((y**2 - 1) ** 2).flatten(1).sum(-1)

        alone, _ = minimise(energy, random_start()[first : first + count], layout=layout)
        together = x[first : first + count]
        assert torch.equal(alone.sign(), together.sign()), f"structure {b} fell in another well"
        first += count


def test_preconditioned_products_are_fewer():
    scale = torch.logspace(0, 4, 18, dtype=torch.float64).reshape(9, 2)

    def energy(x: torch.Tensor) -> torch.Tensor:
        return per_structure(scale * (x - 1) ** 2)

    keywords = {"layout": LAYOUT, "convex": True}
    _, plain = minimise(energy, ZERO, **keywords)
    _, better = minimise(energy, ZERO, precondition=lambda g: g / (2 * scale), **keywords)
    assert better.stages[0].products <= 3 < plain.stages[0].products


def test_nan_raises_at_once():
    calls = 0

    def energy(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return bowl(x) * (torch.nan if calls == 3 else 1.0)

    with pytest.raises(SCFError, match="met numbers that are not finite"):
        minimise(energy, ZERO, layout=LAYOUT, hessian=hessian_of(bowl))
    assert calls == 3
    solve(bowl, ZERO, True)


@pytest.mark.parametrize("convex", [False, True])
def test_where_rounding_hides_the_rest_the_answer_stands(convex):
    """Curvatures of 1e10 eV: the gradient cannot be known to 1e-8, the minimum can."""
    generator = torch.Generator().manual_seed(0)
    root, b = (torch.randn(10, n, dtype=torch.float64, generator=generator) for n in (10, 1))
    matrix, layout = 1e10 * (root @ root.T + torch.eye(10)), layout_of(5)

    def energy(x: torch.Tensor) -> torch.Tensor:
        y = x.reshape(-1)
        return (0.5 * y @ matrix @ y - 1e10 * b[:, 0] @ y)[None]

    start = torch.zeros(5, 2, dtype=torch.float64)
    x, solution = minimise(
        energy, start, layout=layout, hessian=lambda x: matrix[None], convex=convex
    )
    assert solution.residual > SCFOptions().tolerance
    expected = torch.linalg.solve(matrix, 1e10 * b)
    torch.testing.assert_close(x.reshape(-1, 1), expected, rtol=1e-10, atol=1e-12)


def test_too_few_steps_are_an_error_that_says_so():
    with pytest.raises(SCFError, match=r"max_maps': 12") as error:
        solve(bowl, 5 * random_start(), True, options=SCFOptions(max_maps=3))
    assert len(error.value.history) == 3


@pytest.mark.parametrize("convex", [True, False])
@pytest.mark.parametrize("limit", [1, 10, 11])
def test_products_count_and_none_is_beyond_the_limit(convex, limit):
    """Also within one step, whose conjugate gradients need more products than are left."""
    options = SCFOptions(max_maps=limit)
    with pytest.raises(SCFError, match=f"max_maps': {4 * limit}") as error:
        solve(bowl, 5 * random_start(), False, convex=convex, options=options)
    spent = re.search(r"after (\d+) energies and (\d+) Hessian products", str(error.value))
    assert sum(map(int, spent.groups())) == limit
