"""The Coulomb operator: identities between its elements, engines, precision and batches."""

import math
import time
from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.special import gamma, gammainc

from asesc.density import GaussianBasis
from asesc.density.harmonics import MONOMIALS, n_components
from asesc.electrostatics import BOUNDARIES, boundary_for
from asesc.electrostatics.boundary import Open, OpenReciprocal, Periodic
from asesc.electrostatics.field import uniform_field_potential
from asesc.electrostatics.gaussian import boys
from asesc.errors import InputError
from asesc.system import System
from asesc.testing import accepted_pbc, example_system
from asesc.units import COULOMB

FREE = (False, False, False)
BULK = (True, True, True)


def random_multipoles(n_atoms: int, lmax: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_atoms, n_components(lmax), dtype=torch.float64, generator=generator)


def basis_of(n_atoms: int, lmax: int, *widths: float) -> GaussianBasis:
    chosen = torch.tensor(widths, dtype=torch.float64)
    return GaussianBasis(lmax, chosen.repeat(n_atoms // len(chosen) + 1)[:n_atoms])


def test_boys_functions_and_their_derivatives():
    """F_n(T) = γ(n + ½, T)/(2T^(n+½)), through the switch of the algorithm at T = 1."""
    t = torch.tensor([1e-3, 0.3, 0.999, 1.001, 2.0, 9.0, 40.0, 900.0], dtype=torch.float64)
    for n, value in enumerate(boys(t, 6)):
        a = n + 0.5
        exact = gamma(a) * gammainc(a, t.numpy()) / (2 * t.numpy() ** a)
        torch.testing.assert_close(value, torch.tensor(exact), atol=2e-14, rtol=1e-10)
    at_zero = boys(torch.zeros(1, dtype=torch.float64), 3)[:, 0]
    torch.testing.assert_close(at_zero, 1 / torch.tensor([1.0, 3, 5, 7], dtype=torch.float64))
    argument = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: boys(x, 2), argument)
    assert torch.autograd.gradgradcheck(lambda x: boys(x, 2), argument)


@pytest.mark.parametrize("width", [0.5, 1.0, 1.5, 2.0])
def test_self_interaction_and_pairs_of_charges(width):
    atoms = Atoms("H2", positions=[[0, 0, 0], [1.7, 0, 0]])
    dense = Open().bind(System.from_atoms(atoms), basis_of(2, 0, width)).dense()[0]
    assert float(dense[0, 0]) == pytest.approx(COULOMB / (width * math.sqrt(math.pi)), rel=1e-13)
    pair = COULOMB * math.erf(1.7 / (2 * width)) / 1.7
    assert float(dense[0, 1]) == pytest.approx(pair, rel=1e-12)


@pytest.mark.parametrize("name", BOUNDARIES)
def test_multipole_elements_are_derivatives_of_the_charge_element(name):
    """J_lm,l'm' = R_lm(∇_a) R_l'm'(∇_b) J_00 / [(2l−1)!!(2l'−1)!!], which fixes all signs."""
    boundary = BOUNDARIES[name]()
    system = example_system((1, 1), accepted_pbc(boundary)[-1], seed=1)
    widths = basis_of(2, 2, 1.1, 1.4)

    def element(r: torch.Tensor) -> torch.Tensor:
        bound = replace(system, positions=r.view(2, 3))
        charges = GaussianBasis(0, widths.widths)
        return boundary.bind(bound, charges, accuracy=1e-13).dense()[0, 0, 1]

    r = system.positions.reshape(-1)
    hessian = torch.autograd.functional.hessian(element, r)[:3, 3:]
    second = torch.autograd.functional.hessian(element, r)[3:, 3:]
    block = boundary.bind(system, widths, accuracy=1e-13).dense()[0].view(2, 9, 2, 9)[0, :, 1]
    torch.testing.assert_close(block[1:4, 1:4], hessian, atol=1e-8, rtol=0)
    for component in range(4, 9):
        value = sum(
            factor * second[axes[0], axes[1]]
            for powers, factor in MONOMIALS[component].items()
            for axes in [[a for a in range(3) for _ in range(powers[a])]]
        )
        torch.testing.assert_close(block[0, component], value / 3, atol=1e-8, rtol=0)


@pytest.mark.parametrize("lmax", [0, 1, 2])
@pytest.mark.parametrize("widths", [(1.0,), (0.9, 1.6, 1.2)])
def test_direct_and_reciprocal_engines_agree(lmax, widths):
    system = example_system((1,) * 5, FREE, seed=2)
    p, basis = random_multipoles(5, lmax), basis_of(5, lmax, *widths)
    direct = Open().bind(system, basis).potential(p)
    reciprocal = OpenReciprocal().bind(system, basis, accuracy=1e-13).potential(p)
    torch.testing.assert_close(direct, reciprocal, atol=1e-9, rtol=1e-10)


@pytest.mark.parametrize("lmax", [0, 1, 2])
@pytest.mark.parametrize("name", ["periodic", "slab", "open-reciprocal"])
def test_accuracy_is_what_is_achieved(name, lmax):
    """The neglected fraction grows by about ten per multipole order."""
    boundary = BOUNDARIES[name]()
    system = example_system((1,) * 4, accepted_pbc(boundary)[0])
    p, basis = random_multipoles(4, lmax), basis_of(4, lmax, 0.9)
    exact = boundary.bind(system, basis, accuracy=1e-15).potential(p)
    for accuracy in (1e-5, 1e-8, 1e-11):
        v = boundary.bind(system, basis, accuracy=accuracy).potential(p)
        error = float((v - exact).abs().max() / exact.abs().max())
        assert error < accuracy * 30.0 ** (lmax + 1)


@pytest.mark.parametrize("pbc", [BULK, (True, False, True), FREE])
def test_batches_of_different_sizes_equal_single_structures(pbc):
    frames = [example_system((1,) * n, pbc, seed=n) for n in (3, 1, 5)]
    frames[1] = replace(frames[1], cell=1.3 * frames[1].cell)
    batch = System(
        positions=torch.cat([f.positions for f in frames]),
        numbers=torch.cat([f.numbers for f in frames]),
        cell=torch.cat([f.cell for f in frames]),
        pbc=pbc,
        batch=torch.tensor([0] * 3 + [1] + [2] * 5),
        charge=torch.zeros(3, dtype=torch.float64),
        electric_field=torch.zeros(3, 3, dtype=torch.float64),
    )
    p, basis = random_multipoles(9, 1), basis_of(9, 1, 0.8, 1.2)
    boundary = boundary_for("auto", pbc)
    together = boundary.bind(batch, basis)
    start = 0
    for b, frame in enumerate(frames):
        stop = start + frame.n_atoms
        alone = boundary.bind(frame, GaussianBasis(1, basis.widths[start:stop]))
        v = alone.potential(p[start:stop])
        # The narrowest Gaussian of a batch sets the cutoff of all, hence not to rounding.
        torch.testing.assert_close(together.potential(p)[start:stop], v, atol=2e-9, rtol=0)
        rows = 4 * frame.n_atoms
        dense = together.dense()[b]
        torch.testing.assert_close(dense[:rows, :rows], alone.dense()[0], atol=2e-9, rtol=0)
        assert float(dense[rows:].abs().sum() + dense[:, rows:].abs().sum()) == 0
        start = stop


@pytest.mark.parametrize("pbc", [BULK, (True, True, False), FREE])
def test_translation_by_a_micrometre_costs_nothing(pbc):
    system = example_system((1,) * 6, pbc)
    p, basis, boundary = random_multipoles(6, 1), basis_of(6, 1, 1.0), boundary_for("auto", pbc)

    def timed(bound: System) -> tuple[float, float]:
        start = time.process_time()
        energies = [float(boundary.bind(bound, basis).energy(p)) for _ in range(5)]
        return energies[0], time.process_time() - start

    timed(system)
    energy, cost = timed(system)
    shifted, shifted_cost = timed(replace(system, positions=system.positions + 1e4))
    assert shifted == pytest.approx(energy, abs=1e-8)
    assert shifted_cost < 5 * cost + 0.05


@pytest.mark.parametrize("pbc", [BULK, (True, True, False), FREE])
def test_supercells_have_the_energy_of_their_cells(pbc):
    """Repetition along the periodic vectors; a k-point set chosen wrongly shows here."""
    system = example_system((1,) * 3, pbc)
    p, widths = random_multipoles(3, 2), torch.tensor([0.8, 1.0, 1.3], dtype=torch.float64)
    boundary = boundary_for("auto", pbc)
    reference = boundary.bind(system, GaussianBasis(2, widths), accuracy=1e-13).energy(p)
    for axis in range(3):
        if not pbc[axis]:
            continue
        cell = system.cell.clone()
        cell[0, axis] *= 2
        double = replace(
            system,
            positions=torch.cat([system.positions, system.positions + system.cell[0, axis]]),
            numbers=system.numbers.repeat(2),
            cell=cell,
            batch=torch.zeros(6, dtype=torch.int64),
        )
        operator = boundary.bind(double, GaussianBasis(2, widths.repeat(2)), accuracy=1e-13)
        assert float(operator.energy(p.repeat(2, 1))) == pytest.approx(2 * reference.item(), 1e-10)


def test_elongated_and_sheared_cells():
    """A needle, a plate and a strongly sheared description of one cell."""
    p, basis = random_multipoles(2, 1), basis_of(2, 1, 1.0)
    system = example_system((1, 1), BULK, seed=4)
    reference = Periodic().bind(system, basis).energy(p)
    shear = torch.tensor([[1.0, 0, 0], [7, 1, 0], [-5, 6, 1]], dtype=torch.float64)
    sheared = replace(system, cell=shear @ system.cell)
    torch.testing.assert_close(Periodic().bind(sheared, basis).energy(p), reference)
    for edges in ((2.0, 2.0, 90.0), (30.0, 30.0, 2.0)):
        shape = torch.diag(torch.tensor(edges, dtype=torch.float64))[None]
        coarse, fine = (
            Periodic().bind(replace(system, cell=shape), basis, accuracy=a).energy(p)
            for a in (1e-9, 1e-14)
        )
        torch.testing.assert_close(coarse, fine, atol=1e-6, rtol=0)


def test_single_precision_follows_double_precision():
    for pbc in (BULK, (True, True, False), FREE):
        system = example_system((1,) * 4, pbc)
        p, basis, boundary = random_multipoles(4, 1), basis_of(4, 1, 1.0), boundary_for("auto", pbc)
        exact = boundary.bind(system, basis).energy(p)
        low = boundary.bind(
            system.to(dtype=torch.float32), GaussianBasis(1, basis.widths.float())
        ).energy(p.float())
        assert low.dtype == torch.float32
        torch.testing.assert_close(low.double(), exact, atol=0, rtol=2e-5)


def test_coulomb_matrix_is_positive_on_neutral_multipoles():
    for pbc in (BULK, (True, True, False), FREE):
        system = example_system((1,) * 4, pbc)
        dense = boundary_for("auto", pbc).bind(system, basis_of(4, 1, 0.8)).dense()[0]
        charge = torch.zeros(16, dtype=torch.float64)
        charge[::4] = 0.5
        plane = torch.eye(16, dtype=torch.float64) - torch.outer(charge, charge)
        assert float(torch.linalg.eigvalsh(plane @ dense @ plane)[0]) > -1e-10


def test_operators_add():
    system = example_system((1,) * 3, FREE)
    p, basis = random_multipoles(3, 1), basis_of(3, 1, 1.0)
    one = Open().bind(system, basis)
    two = one + one
    torch.testing.assert_close(two.potential(p), 2 * one.potential(p))
    torch.testing.assert_close(two.dense(), 2 * one.dense())
    torch.testing.assert_close(two.energy(p), 2 * one.energy(p))


def test_uniform_field():
    """⟨p, v_ext⟩ = −E·(Σ q r + d); forbidden along periodic directions."""
    system = example_system((1,) * 3, FREE)
    field = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)
    p = random_multipoles(3, 2)
    v = uniform_field_potential(replace(system, electric_field=field), basis_of(3, 2, 1.0))
    dipole = (p[:, :1] * system.positions + p[:, 1:4]).sum(0)
    assert float((p * v).sum()) == pytest.approx(-float(field[0] @ dipole), rel=1e-12)
    with pytest.raises(InputError, match="periodic cell vector 0"):
        uniform_field_potential(
            replace(system, electric_field=field, pbc=(True, True, False)), basis_of(3, 2, 1.0)
        )


def test_boundaries_by_name():
    assert boundary_for("auto", (False, True, True)).name == "slab"
    assert boundary_for("open-reciprocal", FREE).name == "open-reciprocal"
    with pytest.raises(InputError, match="wires are not available"):
        boundary_for("auto", (True, False, False))
    with pytest.raises(InputError, match="Did you mean 'periodic'"):
        boundary_for("peridic", BULK)
    with pytest.raises(InputError, match="contradicts"):
        boundary_for("slab", BULK)


def test_missing_cells_are_refused():
    flat = replace(example_system((1,), BULK), cell=torch.zeros(1, 3, 3, dtype=torch.float64))
    with pytest.raises(InputError, match="cell volume is 0"):
        Periodic().bind(flat, basis_of(1, 0, 1.0))
    with pytest.raises(InputError, match="span no area"):
        boundary_for("auto", (True, True, False)).bind(
            replace(flat, pbc=(True, True, False)), basis_of(1, 0, 1.0)
        )


def test_long_waves_are_part_of_the_operator():
    """J − W Wᵀ has no negative energies on neutral densities, and vanishes with all waves in W."""
    generator = torch.Generator().manual_seed(3)
    system = replace(
        System.from_atoms(bulk("NaCl", "rocksalt", 5.64, cubic=True)),
        positions=4.0 * torch.rand(8, 3, dtype=torch.float64, generator=generator),
    )
    basis = basis_of(8, 1, 1.2)
    neutral = torch.eye(32, dtype=torch.float64)
    is_charge = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).repeat(8)
    neutral -= torch.outer(is_charge, is_charge) / 8
    operator = Periodic().bind(system, basis)
    dense = neutral @ operator.dense()[0] @ neutral
    for n, left in ((40, 10.0), (1200, 1e-3)):
        w = neutral @ operator.lowk_basis(n).flatten(0, 1)
        rest = dense - w @ w.T
        assert float(torch.linalg.eigvalsh(rest)[0]) > -1e-3
        assert float(rest.abs().max()) < left
