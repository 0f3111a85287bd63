"""Screening of long waves: exact on what it knows, and metal slabs of every thickness converge."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from responses import layout_of

from asesc.solvers import (
    SCFOptions,
    estimate_susceptibility,
    long_wave_inverse,
    long_waves,
    screening,
)


def load_benchmark():
    """The slabs of the benchmark, so that its table is a claim that is tested."""
    path = Path(__file__).parents[2] / "benchmarks" / "scf_slab.py"
    spec = importlib.util.spec_from_file_location("scf_slab", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["scf_slab"] = module
    spec.loader.exec_module(module)
    return module


scf_slab = load_benchmark()


def test_waves_are_neutral_and_carry_no_dipoles():
    layout = layout_of(4, 6)
    depth = torch.rand(10, dtype=torch.float64)
    waves = long_waves(depth, layout=layout, n_components=4, count=3)
    assert waves.shape == (10, 4, 3)
    assert float(layout.pad(waves).sum(1).abs().max()) < 1e-14
    assert float(waves[:, 1:].abs().max()) == 0 < float(waves[:, 0].abs().min())


def test_the_model_response_is_undone_on_the_waves_and_nothing_else_is_touched():
    """P (1 + χJ) w = w for w in the waves, at fixed charge; P r = r where r has no wave in it."""
    layout = layout_of(5, 7)
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(2, 7, 7, dtype=torch.float64, generator=generator)
    matrices = root @ root.mT
    chi = torch.rand(12, 1, dtype=torch.float64, generator=generator)
    waves = long_waves(
        torch.rand(12, dtype=torch.float64, generator=generator),
        layout=layout,
        n_components=1,
        count=3,
    )

    def potential(p: torch.Tensor) -> torch.Tensor:
        return layout.unpad(matrices @ layout.pad(p))

    def response(w: torch.Tensor) -> torch.Tensor:
        drive, weight = layout.pad(potential(w)), layout.pad(chi)
        level = (weight * drive).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return w + layout.unpad(weight * (drive - level))

    apply = screening(waves, potential, chi, layout=layout)
    for wave in waves.unbind(-1):
        torch.testing.assert_close(apply(response(wave)), wave)
    rest = torch.randn(12, 1, dtype=torch.float64, generator=generator)
    blocks, padded = layout.pad(waves[:, 0]), layout.pad(rest)
    rest = layout.unpad(padded - blocks @ torch.linalg.pinv(blocks) @ padded)
    torch.testing.assert_close(apply(rest), rest)


def test_more_waves_than_atoms_are_no_obstacle():
    """Structures of different size share one set: what is dependent drops out."""
    layout = layout_of(3, 9)
    depth = torch.cat([torch.linspace(0.1, 0.9, 3), torch.linspace(0.05, 0.95, 9)]).double()
    waves = long_waves(depth, layout=layout, n_components=1, count=8)
    chi = torch.full((12, 1), 0.1, dtype=torch.float64)
    apply = screening(waves, lambda p: 5 * p, chi, layout=layout)
    # Every neutral density is a wave here: P is the inverse of 1 + 0.5.
    r = torch.randn(12, 1, dtype=torch.float64)
    padded, inside = layout.pad(r), layout.mask[..., None]
    neutral = layout.unpad(inside * (padded - padded.sum(1, True) / inside.sum(1, True)))
    torch.testing.assert_close(apply(neutral), neutral / 1.5)


def test_the_susceptibility_is_read_from_the_map():
    slab = scf_slab.MetalSlab(6)
    layout = slab.system.layout
    waves = long_waves(torch.linspace(0, 1, 6).double(), layout=layout, n_components=1, count=3)
    p = torch.zeros(6, 1, dtype=torch.float64)
    chi = estimate_susceptibility(slab.residual, p, waves, slab.potential, layout=layout)
    torch.testing.assert_close(chi, torch.full_like(chi, scf_slab.SUSCEPTIBILITY))


@pytest.mark.parametrize("limit", [None, 0.2], ids=["linear", "saturating"])
@pytest.mark.parametrize("layers", [4, 6, 12, 24])
def test_metal_slabs_converge_in_25_maps_where_linear_mixing_fails(layers, limit):
    """Linear mixing at 0.25 is stable up to 4 layers (reference: 0.33 there, 0.136 for 6)."""
    slab = scf_slab.MetalSlab(layers, limit)
    assert (slab.mix_linearly() is None) == (layers > 4)
    assert slab.solve(jacobian=slab.jacobian).iterations <= 8
    screened = slab.solve(precondition=slab.screening())
    assert sum(stage.maps for stage in screened.stages) <= 25
    if limit is None:
        assert screened.iterations <= 10 and slab.solve().iterations <= 15


def test_the_field_in_a_slab_is_screened():
    """Linear response: the potential differs by a few mV between the inner layers of 12."""
    slab = scf_slab.MetalSlab(12)
    start = torch.zeros(12, 1, dtype=torch.float64)
    p, _ = scf_slab.solve_fixed_point(slab.residual, start, layout=slab.system.layout)
    u = slab.potential(p)[:, 0] + slab.external
    applied = float(slab.external[4] - slab.external[7])
    assert abs(float(u[4] - u[7])) < 0.02 * applied
    assert float(p.sum().abs()) < 12 * SCFOptions().tolerance


def test_long_wave_inverse_is_that_of_diagonal_and_waves():
    generator = torch.Generator().manual_seed(0)
    diagonal = 1 + torch.rand(12, dtype=torch.float64, generator=generator)
    waves = torch.randn(12, 5, dtype=torch.float64, generator=generator)
    r = torch.randn(12, dtype=torch.float64, generator=generator)
    whole = torch.diag(diagonal) + waves @ waves.T
    torch.testing.assert_close(long_wave_inverse(diagonal, waves)(r), torch.linalg.solve(whole, r))
