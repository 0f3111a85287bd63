"""Steps of dense quadratic models: within the radius, and least there."""

import torch

from asesc.solvers.trust_region import DenseModel

CURVATURES, DIMENSION = (1e-2, 1.0, 1e3), 7


def cases(convex: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients, Hessians and radii of a batch; slopes along the lowest curvature from 1 to 0."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    slopes = [10.0**-k for k in range(17)] + [0.0]
    n = len(slopes) * len(CURVATURES)
    values = normal(n, DIMENSION).sort(dim=-1).values
    values = values.abs().sort(dim=-1).values if convex else values
    values = values * torch.tensor(CURVATURES).repeat(len(slopes))[:, None]
    slope = normal(n, DIMENSION)
    slope[:, 0] = torch.tensor(slopes).repeat_interleave(len(CURVATURES))
    vectors = torch.linalg.qr(normal(n, DIMENSION, DIMENSION)).Q
    hessian = vectors @ torch.diag_embed(values) @ vectors.mT
    gradient = torch.einsum("bij,bj->bi", vectors, slope)
    return gradient, 0.5 * (hessian + hessian.mT), 10 ** normal(n)


def test_steps_are_least_within_their_radius():
    """(H + σ) s = −g with H + σ not negative, and |s| = radius or σ = 0: the least point."""
    for convex in (True, False):
        gradient, hessian, radius = cases(convex)
        step = DenseModel(gradient, hessian).step(radius)
        length = torch.linalg.vector_norm(step.s, dim=-1)
        assert bool((length <= radius * (1 + 1e-9)).all())
        torch.testing.assert_close(length[step.cut], radius[step.cut], rtol=1e-6, atol=0)
        image = torch.einsum("bij,bj->bi", hessian, step.s)
        sigma = -((image + gradient) * step.s).sum(-1) / length**2
        size = hessian.abs().amax(dim=(1, 2))
        rest = (image + sigma[:, None] * step.s + gradient).abs().amax(-1)
        scale = gradient.abs().amax(-1) + size * length
        assert bool((rest <= 1e-6 * scale).all())
        lowest = torch.linalg.eigvalsh(hessian)[:, 0]
        assert bool((sigma >= -lowest - 1e-6 * size).all())
        assert bool((sigma[~step.cut].abs() <= 1e-6 * size[~step.cut]).all())
        predicted = -((gradient + 0.5 * image) * step.s).sum(-1)
        torch.testing.assert_close(step.predicted, predicted, rtol=1e-9, atol=1e-12)
