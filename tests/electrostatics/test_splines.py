"""B-splines and stencils: against scipy's splines, their own transpose and derivatives."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from asesc.electrostatics.compiled import CompiledStencil, is_available
from asesc.electrostatics.splines import spline_spectrum, spline_weights
from asesc.electrostatics.stencil import (
    Stencil,
    derivative_terms,
    gather,
    good_size,
    spread,
)

needs_numba = pytest.mark.skipif(not is_available(), reason="numba is not installed")
STENCILS = [Stencil, pytest.param(CompiledStencil, marks=needs_numba)]


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def folded(mesh: torch.Tensor, n: int) -> torch.Tensor:
    """What rows hold beyond their n points belongs to the first ones."""
    parts = mesh.split(n, dim=-1)
    return sum(torch.nn.functional.pad(part, (0, n - part.shape[-1])) for part in parts)


def continued(mesh: torch.Tensor, row: int) -> torch.Tensor:
    return mesh[..., torch.arange(row) % mesh.shape[-1]]


def scipy_spline(order: int, derivative: int = 0) -> BSpline:
    """The cardinal B-spline centred at zero."""
    spline = BSpline.basis_element(np.arange(order + 1) - order / 2, extrapolate=False)
    return spline.derivative(derivative) if derivative else spline


@pytest.mark.parametrize("order", [2, 4, 6, 8, 12, 14])
def test_weights_are_the_splines_of_scipy(order):
    offsets = uniform(7)
    points = np.arange(order) - order // 2 + 1
    for n in range(min(order - 1, 4)):
        weights = spline_weights(offsets, order, n)[n].numpy()
        # ∂/∂x of M(j − x) is −M'.
        exact = (-1) ** n * scipy_spline(order, n)(points - offsets.numpy()[:, None])
        np.testing.assert_allclose(weights, exact, atol=1e-13 * 2**n)


@pytest.mark.parametrize("order", [4, 8, 14])
def test_spectrum_is_that_of_the_sampled_spline(order):
    for n in (order + 2, 30):
        samples = torch.zeros(n, dtype=torch.float64)
        for j in range(-order // 2 + 1, order // 2):
            samples[j] = float(scipy_spline(order)(j))
        spectrum = spline_spectrum(n, order, like=samples)
        torch.testing.assert_close(torch.fft.fft(samples).real, spectrum, atol=1e-14, rtol=0)
        assert float(spectrum.min()) > 0, "a zero at the Nyquist wave could not be divided by"


@pytest.mark.parametrize("stencil_type", STENCILS)
@pytest.mark.parametrize(("shape", "order"), [((6, 8, 10), 6), ((3, 2, 4), 8)])
def test_spreading_by_its_definition(stencil_type, shape, order):
    """Also on a mesh smaller than the stencil, which then wraps around it several times."""
    x = 30 * uniform(4, 3) - 10
    values = uniform(4, len(derivative_terms(1)), seed=1)
    channel = torch.tensor([0, 1, 1, 0])
    stencil = stencil_type(x, shape, order=order, channel=channel, n_channels=2)
    expected = np.zeros((2, *shape))
    points = [np.arange(n) for n in shape]
    for position, value, c in zip(x.numpy(), values.numpy(), channel.numpy(), strict=True):
        line = [
            [np.zeros(n), np.zeros(n)] for n in shape
        ]  # of every direction, spline and derivative
        for d, n in enumerate(shape):
            for image in range(-12 * order, 12 * order):
                distance = points[d] + image * n - position[d]
                line[d][0] += np.nan_to_num(scipy_spline(order)(distance))
                line[d][1] -= np.nan_to_num(scipy_spline(order, 1)(distance))
        for t, term in enumerate(derivative_terms(1)):
            lines = [line[d][power] for d, power in enumerate(term)]
            expected[c] += value[t] * np.einsum("i,j,k->ijk", *lines)
    mesh = folded(stencil.spread(values, 1), shape[2])
    np.testing.assert_allclose(mesh.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("stencil_type", STENCILS)
@pytest.mark.parametrize("derivatives", [0, 1, 2, 3])
def test_gathering_is_the_transpose_of_spreading(stencil_type, derivatives):
    x = 30 * uniform(9, 3) - 10
    values = uniform(9, len(derivative_terms(derivatives)), seed=3)
    channel = torch.arange(9) % 2
    stencil = stencil_type(x, (6, 9, 10), order=8, channel=channel, n_channels=2)
    mesh = uniform(2, 6, 9, stencil.row, seed=2)
    spreading = (stencil.spread(values, derivatives) * mesh).sum()
    gathering = (stencil.gather(mesh, derivatives) * values).sum()
    torch.testing.assert_close(spreading, gathering, rtol=1e-14, atol=1e-14)


@needs_numba
@pytest.mark.parametrize("order", [4, 6, 8, 10, 14])
def test_compiled_loops_give_the_same_numbers(order):
    """Vectors of four and eight numbers, and rows that end within one."""
    x, mesh = 9 * uniform(700, 3) - 2, uniform(1, 8, 10, 12)
    channel = torch.zeros(700, dtype=torch.int64)
    by_tensors, compiled = (
        kind(x, (8, 10, 12), order=order, channel=channel, n_channels=1)
        for kind in (Stencil, CompiledStencil)
    )
    values = uniform(700, 10, seed=1)
    for derivatives, columns in ((0, 1), (1, 4), (2, 10)):
        torch.testing.assert_close(
            folded(compiled.spread(values[:, :columns], derivatives), 12),
            by_tensors.spread(values[:, :columns], derivatives),
            atol=1e-12,
            rtol=0,
        )
        torch.testing.assert_close(
            compiled.gather(continued(mesh, compiled.row), derivatives),
            by_tensors.gather(mesh, derivatives),
            atol=1e-12,
            rtol=0,
        )


def test_first_and_second_derivatives():
    x = (5 * uniform(2, 3)).requires_grad_()
    values = uniform(2, 4, seed=1).requires_grad_()
    mesh = uniform(1, 4, 4, 4, seed=2).requires_grad_()

    def stencil(at: torch.Tensor) -> Stencil:
        channel = torch.zeros(2, dtype=torch.int64)
        return Stencil(at, (4, 4, 4), order=8, channel=channel, n_channels=1)

    def spreading(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return spread(values, x, stencil(x), 1)

    def gathering(mesh: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return gather(mesh, x, stencil(x), 1)

    for function, arguments in ((spreading, (values, x)), (gathering, (mesh, x))):
        assert torch.autograd.gradcheck(function, arguments, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, arguments, fast_mode=True)


def test_mesh_sizes_are_even_and_smooth():
    assert [good_size(n) for n in (1, 2, 2.1, 11, 16, 33, 50.01, 97, 101)] == [
        *(2, 2, 4, 12, 16, 36, 54, 98, 108)
    ]
    assert good_size(1e12 + 1) == 2**8 * 3**6 * 5**6 * 7**3
