"""The map F and its parts: monotone, exact charge, exact Jacobian, differentiable twice."""

from dataclasses import replace

import pytest
import torch
from builders import NUMBERS, random_model
from torch.autograd import gradcheck, gradgradcheck

from asesc.electrostatics import boundary_for
from asesc.models.base import Problem
from asesc.models.density_map import DensityMap
from asesc.models.ensembles import increasing_root
from asesc.models.updates import UPDATES
from asesc.system import System
from asesc.testing import example_system

FREE = (False, False, False)
ENSEMBLES = {"charge": None, "level": -4.0}


def pair_of_molecules(level: float | None) -> System:
    """Structures of six and three atoms, charged, in a field."""
    one, two = example_system(NUMBERS, FREE), example_system(NUMBERS[:3], FREE, seed=2)
    return replace(
        one,
        positions=torch.cat([one.positions, two.positions]),
        numbers=torch.cat([one.numbers, two.numbers]),
        cell=torch.cat([one.cell, two.cell]),
        batch=torch.tensor([0] * 6 + [1] * 3),
        charge=torch.tensor([1.0, -2.0], dtype=torch.float64),
        electric_field=torch.tensor([[0.1, 0.0, -0.2], [0.0, 0.3, 0.0]], dtype=torch.float64),
        fermi_level=None if level is None else torch.full((2,), level, dtype=torch.float64),
    )


def density_map(kind: str, level: float | None) -> DensityMap:
    model, system = random_model("FixedPoint", update=kind), pair_of_molecules(level)
    with torch.no_grad():
        coulomb = boundary_for("auto", system.pbc).bind(system, model.basis(system))
        return model.density_map(Problem(system, model.backbone(system), coulomb))


def density(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, 4, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("kind", UPDATES)
def test_answers_are_monotone_and_vanish_at_zero(kind):
    """dq_i/dμ ≤ 0 for every atom at potentials of any size, whatever the weights."""
    answer = density_map(kind, None).answer
    n_atoms, n_edges = 9, len(answer.on_edges(torch.zeros(1, dtype=torch.float64)))
    generator = torch.Generator().manual_seed(1)
    channels = UPDATES[kind].channels
    for scale in (0.1, 3.0, 100.0):
        x, drop, gradient = (
            scale * torch.randn(*shape, dtype=torch.float64, generator=generator)
            for shape in ((n_atoms, channels), (n_edges,), (n_atoms, 3))
        )
        x, drop, gradient = (v.requires_grad_() for v in (x, drop, gradient))
        (slope,) = torch.autograd.grad(answer.on_atoms(x).sum(), x)
        assert bool((slope >= 0).all()) and bool((slope.sum(-1) > 0).all())
        (slope,) = torch.autograd.grad(answer.on_edges(drop).sum(), drop)
        assert bool((slope >= 0).all())
        torch.testing.assert_close(answer.on_edges(-drop), -answer.on_edges(drop))
        rows = [
            torch.autograd.grad(answer.on_dipoles(gradient)[:, a].sum(), gradient)[0]
            for a in range(3)
        ]
        tensor = torch.stack(rows, dim=1)
        torch.testing.assert_close(tensor, tensor.transpose(1, 2))
        assert float(torch.linalg.eigvalsh(tensor).min()) > -1e-12
    zeros = torch.zeros_like(x.detach())
    assert float(answer.on_atoms(zeros).abs().max()) == 0
    assert float(answer.on_dipoles(zeros[:, :1].expand(-1, 3)).abs().max()) == 0


@pytest.mark.parametrize("kind", ["gated", "mlp"])
def test_bent_answers_are_not_linear(kind):
    answer = density_map(kind, None).answer
    x = torch.ones(9, UPDATES[kind].channels, dtype=torch.float64)
    assert float((answer.on_atoms(20 * x) / (20 * answer.on_atoms(x))).min()) < 0.9


@pytest.mark.parametrize("kind", UPDATES)
def test_every_application_has_the_exact_charge(kind):
    """Also for densities that are not neutral, far from the solution, and for any potential."""
    mapped = density_map(kind, None)
    for seed, scale in ((0, 1.0), (1, 30.0)):
        charges = mapped(scale * density(seed)).coefficients[:, 0]
        total = torch.stack([charges[:6].sum(), charges[6:].sum()])
        torch.testing.assert_close(total, mapped.problem.system.charge, atol=1e-11, rtol=0)


@pytest.mark.parametrize("kind", UPDATES)
@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_the_dense_jacobian_is_the_derivative(kind, ensemble):
    mapped = density_map(kind, ENSEMBLES[ensemble])
    p, layout = density(), mapped.problem.system.layout
    blocks = mapped.jacobian(p)
    exact = torch.autograd.functional.jacobian(mapped.residual, p)
    for b, atoms in enumerate((slice(0, 6), slice(6, 9))):
        n = 4 * (atoms.stop - atoms.start)
        own = exact[atoms][:, :, atoms].reshape(n, n)
        torch.testing.assert_close(blocks[b, :n, :n], own, atol=1e-9, rtol=1e-9)
    assert float(exact[:6, :, 6:].abs().max()) == 0
    assert layout.shape == (2, 6)
    if ensemble == "level":
        step = 1e-5
        system = mapped.problem.system
        up, down = (
            replace(
                mapped,
                problem=replace(
                    mapped.problem, system=replace(system, fermi_level=system.fermi_level + h)
                ),
            )(p).coefficients
            for h in (step, -step)
        )
        torch.testing.assert_close(
            mapped.level_derivative(p), (up - down) / (2 * step), atol=1e-8, rtol=1e-8
        )


@pytest.mark.parametrize("kind", UPDATES)
def test_two_derivatives_at_fixed_charge(kind):
    """The level that the map eliminates inside carries them too."""
    mapped = density_map(kind, None)

    def residual(p, charge):
        system = replace(mapped.problem.system, charge=charge)
        return replace(mapped, problem=replace(mapped.problem, system=system)).residual(p)

    inputs = (density().requires_grad_(), mapped.problem.system.charge.clone().requires_grad_())
    assert gradcheck(residual, inputs, atol=1e-7, rtol=1e-6, fast_mode=True)
    assert gradgradcheck(residual, inputs, atol=1e-6, rtol=1e-5, fast_mode=True)


def test_the_ramp_ends_at_the_full_problem():
    mapped, p = density_map("gated", None), density()
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(mapped.ramped(p, ones), mapped.residual(p))
    charges = (p - mapped.ramped(p, 0 * ones))[:, 0]
    assert abs(float(charges[:6].sum())) < 1e-11 and abs(float(charges[6:].sum())) < 1e-11


def test_roots_of_steep_and_flat_functions():
    """Newton alone overshoots on tanh(x − 3) + 1e-3 x; the bracket brings it back."""
    targets = torch.tensor([3.0, -50.0], dtype=torch.float64)

    def function(x):
        return torch.tanh(x - targets) + 1e-3 * (x - targets)

    x, slope, steps = increasing_root(
        function, torch.tensor([40.0, 30.0]).double(), tolerance=1e-12
    )
    torch.testing.assert_close(x, targets, atol=1e-10, rtol=0)
    torch.testing.assert_close(slope, torch.full((2,), 1.001).double(), atol=1e-6, rtol=0)
    assert len(steps) < 40


def test_a_root_found_to_rounding_waits_for_the_others():
    """f₁(1) = −10⁻²⁰ < 0, but 1 + 10⁻²⁰ is 1: the next trial is the same point, below no bound."""

    def function(x):
        return torch.stack([(x[0] - 1) - 1e-20, torch.tanh(x[1] - 3) + 1e-3 * (x[1] - 3)])

    x, _, _ = increasing_root(function, torch.tensor([1.0, 40.0]).double(), tolerance=1e-12)
    torch.testing.assert_close(x, torch.tensor([1.0, 3.0]).double(), atol=1e-10, rtol=0)
