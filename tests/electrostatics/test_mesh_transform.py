"""Transforms of meshes: against torch.fft, their own inverse and transpose."""

import math

import pytest
import torch

from asesc.electrostatics.mesh_transform import FastTransform, MatrixTransform, mesh_transform

SHAPE = (10, 14, 12)
CPU = {"dtype": torch.float64, "device": torch.device("cpu")}


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def transforms(row: int) -> list[FastTransform | MatrixTransform]:
    matrices = MatrixTransform(SHAPE, row, (3, 6, 4), dtype=torch.float64)
    return [FastTransform(SHAPE, row, **CPU), matrices]


@pytest.mark.parametrize("row", [12, 15, 31])
def test_matrices_give_the_waves_of_fast_transforms(row):
    """Of rows that are as long as the mesh, and of those that go round it."""
    fast, matrices = transforms(row)
    mesh = uniform(2, 3, *SHAPE[:2], row)
    mx, my, mz = (m % n for m, n in zip(matrices.numbers, SHAPE, strict=True))
    expected = fast.forward(mesh)[:, :, mx[:, None, None], my[:, None], mz]
    torch.testing.assert_close(matrices.forward(mesh), expected, rtol=1e-13, atol=1e-13)
    by_definition = torch.fft.rfftn(sum_of_images(mesh), dim=(-3, -2, -1))
    torch.testing.assert_close(fast.forward(mesh), by_definition, rtol=1e-13, atol=1e-13)


def sum_of_images(mesh: torch.Tensor) -> torch.Tensor:
    folded = mesh.new_zeros(*mesh.shape[:-1], SHAPE[2])
    return folded.index_add(-1, torch.arange(mesh.shape[-1]) % SHAPE[2], mesh)


@pytest.mark.parametrize("row", [12, 15, 31])
def test_a_smooth_field_comes_back(row):
    """One that has only waves which are kept."""
    for transform in transforms(row):
        axes = [torch.arange(n, dtype=torch.float64) / n for n in (*SHAPE[:2], row)]
        axes[2] = torch.arange(row, dtype=torch.float64) / SHAPE[2]
        x, y, z = torch.meshgrid(*axes, indexing="ij")
        field = 0.3 + torch.cos(2 * math.pi * (2 * x - 5 * y + 3 * z) + 0.4)
        field = field + torch.sin(2 * math.pi * (3 * x + y) - 0.1)
        waves = transform.forward(field.where(z < 1 - 1e-9, 0.0))
        torch.testing.assert_close(transform.inverse(waves), field, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("row", [12, 15])
def test_weights_make_sums_over_waves_sums_over_points(row):
    """Parseval; and F⁻¹ is the transpose of F with these weights."""
    for transform in transforms(row):
        mesh, other = uniform(*SHAPE[:2], row), uniform(*SHAPE[:2], row, seed=1)
        waves, seen = transform.forward(mesh), transform.forward(other)
        on_waves = (transform.weight * (seen.conj() * waves).real).sum()
        torch.testing.assert_close(on_waves, (other * transform.inverse(waves)).sum())


def test_large_meshes_and_those_with_all_waves_are_transformed_fast():
    def kind(shape: tuple[int, int, int], waves: tuple[int, int, int]) -> type:
        return type(mesh_transform(shape, shape[2], waves, *CPU.values()))

    assert kind((20, 20, 24), (6, 6, 7)) is MatrixTransform
    assert kind((20, 20, 24), (6, 6, 12)) is FastTransform
    assert kind((20, 20, 200), (6, 6, 60)) is FastTransform
