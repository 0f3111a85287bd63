"""What a self-consistent density must do: identities with other families, limits, metals."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from builders import NUMBERS, random_model
from fixed_point_models import fixed_point, quadratic

from asesc.errors import InputError, SCFError
from asesc.models import FixedPoint
from asesc.models.readouts import inverse_positive
from asesc.models.updates import UPDATES
from asesc.response import conjugacy, conjugacy_errors, energy_and_forces, polarizability
from asesc.solvers import SCFOptions
from asesc.system import System
from asesc.testing import example_system
from asesc.units import COULOMB

FREE = (False, False, False)
BULK = (True, True, True)
CLUSTER = Atoms("HLi2H", positions=[[0, 0, 0], [1.5, 0, 0], [2.0, 1.9, 0.3], [0.2, 2.0, -0.6]])
FIELD = (0.1, 0.02, -0.05)
#: Height of a layer and edge of the surface cell of the model metal, Å, about fcc(100) silver.
LAYER, EDGE = 2.04, 2.88


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def electrostatic(prediction) -> torch.Tensor:
    """Energy without the short-range part, which differs between random backbones."""
    return prediction.energy - prediction.contributions["short_range"]


@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_a_metallic_linear_response_is_charge_equilibration(charge):
    """p = −S(χ + Jp + μ) with s = 1/η, α = 1/κ solves χ + ηq + Jp = −μ, κd + Jp = E: the same
    density, level and energy as QEq (duality of map and functional, arXiv:2603.14700)."""
    system = System.from_atoms(CLUSTER, charge=charge, electric_field=FIELD)
    one = fixed_point(susceptibility=0.1, polarizability=0.05, receivers=(1.0,))
    heads = {
        "charge_head": [4.5, inverse_positive(10.0)],
        "stiffness_head": [inverse_positive(20.0)],
    }
    other = quadratic("QEq", heads=heads, width=1.5)
    with torch.no_grad():
        a, b = one(system), other(system)
    # Conductances have a floor of 1e-6 e/V.
    close = partial(torch.testing.assert_close, rtol=0, atol=2e-6)
    close(a.density.coefficients, b.density.coefficients)
    close(a.fermi_level, b.fermi_level, atol=2e-5)
    close(electrostatic(a), electrostatic(b), atol=2e-5)


def test_an_insulating_linear_response_is_split_charge_equilibration():
    """s = 0: p = −(L_g, α) u is SQE without hardness, and charge moves along edges only."""
    system = System.from_atoms(CLUSTER, electric_field=FIELD)
    one = fixed_point(susceptibility=0.0, conductance=0.2, polarizability=0.05, receivers=(1.0,))
    heads = {
        "charge_head": [0.0, -50.0, 0.0],
        "edge_head": [inverse_positive(0.2) - inverse_positive(0.05), 0.0, -50.0],
        "polarizability_head": [inverse_positive(0.05)],
    }
    other = quadratic("SplitChargeEquilibration", heads=heads, width=1.5)
    with torch.no_grad():
        a, b = one(system), other(system)
    close = partial(torch.testing.assert_close, rtol=0, atol=2e-6)
    close(a.density.coefficients, b.density.coefficients)
    close(electrostatic(a), electrostatic(b))
    assert float(a.density.charges.abs().max()) > 0.01


def test_the_stationary_limit_is_conjugate_and_others_are_measured():
    """−∂E/∂E_field = μ[p] and −∂E/∂Q = level for the receiver σ and the stationary energy; a
    second, wider receiver breaks both, and `conjugacy` sees it."""
    system = System.from_atoms(CLUSTER, charge=0.3, electric_field=FIELD)
    model = fixed_point(susceptibility=0.1, polarizability=0.05, receivers=(1.0,))
    both = conjugacy(model, system)
    assert float(both.dipole_mismatch) < 1e-5 and float(both.level_mismatch) < 1e-4
    model = fixed_point(susceptibility=0.1, polarizability=0.05, receivers=(1.0, 2.0))
    both = conjugacy(model, system)
    assert float(both.dipole_mismatch) > 1e-4 and float(both.level_mismatch) > 1e-2
    errors = conjugacy_errors(model, [system, system])
    assert errors["dipole"] == pytest.approx(float(both.dipole_mismatch) / math.sqrt(3))
    assert errors["fermi_level"] == pytest.approx(float(both.level_mismatch))


@pytest.mark.parametrize("susceptibility", [1e-3, 0.185, 1.0, 1e2, 1e5])
def test_own_site_response_never_diverges(susceptibility):
    """One atom: q = −s(χ + μ + J₀₀q) gives q = −s(χ + μ)/(1 + sJ₀₀), J₀₀ = k_e/(σ√π), for every s.

    Without the atom's own Gaussian in the potential the map has the eigenvalue +sJ₀₀ and linear
    mixing diverges beyond s = 1/J₀₀ = 0.185 e/V at σ = 1.5 Å (reference: sandbox of
    arXiv:2603.14700, include_field_si=False).
    """
    model = fixed_point(susceptibility=susceptibility, lmax=0, receivers=(1.0,))
    for limit in (1500, 0):  # dense Newton, then the ladder without it
        with torch.no_grad():
            system = System.from_atoms(Atoms("H"), fermi_level=-3.0)
            found = model(system, scf=SCFOptions(dense_limit=limit))
        expected = -susceptibility * 1.5 / (1 + susceptibility * COULOMB / (1.5 * math.pi**0.5))
        assert float(found.charge) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", UPDATES)
@pytest.mark.parametrize("charge", [-2.0, 0.0, 1.5])
def test_the_charge_is_exact_at_any_tolerance(kind, charge):
    """Σq = Q in what is returned, whatever the solver left."""
    system = replace(example_system(NUMBERS, BULK), charge=tensor(charge))
    with torch.no_grad():
        loose = random_model("FixedPoint", update=kind)(
            system, scf=SCFOptions(tolerance=0.3, energy_tolerance=10.0)
        )
    assert abs(float(loose.density.charges.sum()) - charge) < 1e-11


def test_insulators_hold_their_charge_and_the_limit_is_smooth():
    """Σs → 0: charge sits where the shares put it, nothing divides by zero, and densities and
    forces of ever smaller s converge to those of s = 0."""
    system = System.from_atoms(CLUSTER, charge=1.0, electric_field=FIELD)

    def result(susceptibility):
        model = fixed_point(susceptibility=susceptibility, conductance=0.1, polarizability=0.05)
        found = energy_and_forces(model, system)
        return found.prediction.density.coefficients.detach(), found.forces

    insulator, forces = result(0.0)
    assert abs(float(insulator[:, 0].sum()) - 1) < 1e-12
    assert torch.isfinite(forces).all()
    distances = []
    for susceptibility in (1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-15):
        density, pushed = result(susceptibility)
        assert abs(float(density[:, 0].sum()) - 1) < 1e-12
        distances.append(float((density - insulator).abs().max() + (pushed - forces).abs().max()))
    assert distances[1] < 1e-2 and max(distances[3:]) < 1e-6


@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_an_insulator_is_blind_to_the_fermi_level(charge):
    """No reservoir reaches it: its charge is that of its neutral local density."""
    model = fixed_point(susceptibility=0.0, conductance=0.1, polarizability=0.05)
    with torch.no_grad():
        charges = [
            float(model(System.from_atoms(CLUSTER, fermi_level=level)).charge)
            for level in (-8.0, 0.0)
        ]
    assert np.abs(charges).max() < 1e-10


def chain_exponents(model, sizes=(16, 32, 64, 128)) -> np.ndarray:
    """Local exponents of α(N) along chains of N atoms 2.5 Å apart."""
    alphas = []
    for n in sizes:
        chain = Atoms(f"H{n}", positions=[[2.5 * i, 0, 0] for i in range(n)])
        alphas.append(float(polarizability(model, System.from_atoms(chain))[0, 0, 0]))
    return np.diff(np.log2(alphas))


def test_polarizability_of_an_insulating_chain_is_extensive():
    """Finite g and α, s = 0: charge reaches the next atom only, α(N) ~ N."""
    model = fixed_point(susceptibility=0.0, conductance=0.3, polarizability=0.1)
    exponents = chain_exponents(model)
    assert exponents[0] > exponents[-1] > 0.99
    assert exponents[-1] == pytest.approx(1, abs=0.03)


def test_polarizability_of_a_metallic_chain_is_not():
    """s > 0: charge crosses the whole chain and α(N) tends to N³, as in QEq."""
    exponents = chain_exponents(fixed_point(susceptibility=0.2))
    assert np.all(np.diff(exponents) > 0) and 2.5 < exponents[-1] < 3


def slab(n: int, **options) -> System:
    """A metal of n layers of one atom each, stacked like fcc(100), open along z."""
    positions = [[(i % 2) * EDGE / 2, (i % 2) * EDGE / 2, i * LAYER] for i in range(n)]
    cell = [EDGE, EDGE, n * LAYER + 40.0]
    return System.from_atoms(
        Atoms(f"H{n}", positions=positions, cell=cell, pbc=(True, True, False)), **options
    )


@pytest.mark.parametrize("scf", [SCFOptions(), SCFOptions(dense_limit=0)], ids=["dense", "ladder"])
def test_a_metal_slab_screens_a_field(scf):
    """4 to 24 layers in 0.01 V/Å: the potential inside is flat to 1 mV and each further layer adds
    the dipole of a perfect conductor, E A d/(4πk_e); at most 25 maps at every thickness.

    Inside, Δq = 0 needs a potential equal to the level; a plane of charge E A/(4πk_e) at either
    face cancels the field, so that the dipole grows by that charge times the spacing d.
    """
    model = fixed_point(susceptibility=0.1, lmax=0, width=1.0)
    field, dipoles, sizes = 0.01, [], (4, 6, 8, 12, 16, 24)
    for n in sizes:
        system = slab(n, electric_field=(0, 0, field))
        with torch.no_grad():
            found = model(system, scf=scf)
        assert sum(stage.maps for stage in found.solution.stages) <= 25
        heights = system.positions[:, 2]
        potential = found.potential[:, 0] - field * heights
        inside = potential[n // 4 : n - n // 4]
        assert float(inside.max() - inside.min()) < 1e-3
        dipoles.append(float(found.dipole[0, 2]))
    per_layer = np.diff(dipoles) / np.diff(sizes)
    expected = field * EDGE**2 * LAYER / (4 * math.pi * COULOMB)
    np.testing.assert_allclose(per_layer[1:], expected, rtol=3e-3)


class TwoMetals(FixedPoint):
    """Electronegativities that differ between the elements, by hand."""

    def density_map(self, problem):
        found = super().density_map(problem)
        chi = torch.where(problem.system.numbers == 3, 3.5, 4.5).double()
        return replace(found, environment=replace(found.environment, electronegativity=chi))


def two_slabs(gap: float, *, layers: int = 6) -> System:
    """A slab of each metal, ``gap`` between their outermost layers, in vacuum."""
    one = slab(layers).positions
    other = one + tensor(0, 0, (layers - 1) * LAYER + gap)
    numbers = [1] * layers + [3] * layers
    cell = [EDGE, EDGE, 4 * layers * LAYER + gap]
    atoms = Atoms(numbers, torch.cat([one, other]).numpy(), cell=cell, pbc=(True, True, False))
    return System.from_atoms(atoms)


def test_two_metals_in_contact_share_one_fermi_level():
    """Alone their levels differ by Δχ; together both have one level inside, and the charge that
    crossed makes the contact potential Δχ of a capacitor, Q = A Δχ/(4πk_e (d + d₀)): the inverse
    capacitance grows by exactly 4πk_e/A per gap."""
    model = fixed_point(susceptibility=0.1, lmax=0, width=1.0, family=TwoMetals)
    with torch.no_grad():
        alone = [
            float(model(replace(slab(6), numbers=torch.full((6,), z))).fermi_level) for z in (1, 3)
        ]
        assert alone[1] - alone[0] == pytest.approx(1.0, abs=1e-6)
        inverse_capacitances = []
        for gap in (10.0, 20.0):
            system = two_slabs(gap)
            found = model(system)
            level = float(found.fermi_level)
            assert alone[0] < level < alone[1]
            chi = torch.where(system.numbers == 3, 3.5, 4.5).double()
            electron_levels = -(found.potential[:, 0] + chi)
            inside = electron_levels[[2, 3, 8, 9]]
            # The atoms' own answer: level − x = Δq/s, small inside, not zero for finite s.
            assert float((inside - level).abs().max()) < 5e-3
            crossed = float(found.density.charges[6:].sum())
            assert crossed > 0  # electrons go from the higher level to the lower
            inverse_capacitances.append(1.0 / crossed)
    slope = (inverse_capacitances[1] - inverse_capacitances[0]) / 10.0
    assert slope == pytest.approx(4 * math.pi * COULOMB / EDGE**2, rel=1e-6)


@pytest.mark.parametrize("boundary", ["periodic", "electrodes"])
def test_grand_energy_of_a_metal_slab(boundary):
    """dΩ/dμ = −N_e to 1e-6 for the slab held at a Fermi level (stationary energy)."""
    model = fixed_point(susceptibility=0.1, lmax=0, receivers=(1.0,))
    system = slab(6)
    if boundary == "periodic":
        system = replace(system, pbc=BULK)
    with torch.no_grad():
        up, here, down = (
            model(replace(system, fermi_level=tensor(-4.0 + h)), boundary=boundary)
            for h in (1e-3, 0.0, -1e-3)
        )
    slope = float(up.energy - down.energy) / 2e-3
    assert slope == pytest.approx(float(here.charge), abs=1e-6)
    assert float(here.charge) < -1e-3  # above −χ, where it is neutral


@pytest.mark.parametrize("kind", UPDATES)
def test_second_derivatives(kind):
    """Forces of a charged molecule in a field, differentiated by autograd and by differences."""
    model = random_model("FixedPoint", update=kind)
    system = replace(
        example_system(NUMBERS, FREE), charge=tensor(1.0), electric_field=tensor(*FIELD)[None]
    )
    alpha = polarizability(model, system)[0]
    step, dipoles = 1e-4, []
    positions = system.positions.clone().requires_grad_()
    forces = energy_and_forces(model, replace(system, positions=positions), create_graph=True)
    (row,) = torch.autograd.grad(forces.forces[2, 1], positions)
    moved = []
    for h in (step, -step):
        field = system.electric_field + tensor(0, h, 0)
        with torch.no_grad():
            dipoles.append(model(replace(system, electric_field=field)).dipole[0])
        shifted = system.positions.clone()
        shifted[0, 2] += h
        moved.append(energy_and_forces(model, replace(system, positions=shifted)).forces[2, 1])
    torch.testing.assert_close(
        alpha[:, 1], (dipoles[0] - dipoles[1]) / (2 * step), atol=1e-6, rtol=1e-5
    )
    difference = float(moved[0] - moved[1]) / (2 * step)
    assert float(row[0, 2]) == pytest.approx(difference, rel=1e-4, abs=1e-4)


def test_a_warm_start_saves_maps_and_changes_nothing():
    model = random_model("FixedPoint", update="gated")
    system = example_system(NUMBERS, FREE)
    with torch.no_grad():
        cold = model(system)
        warm = model(system, start=cold.density.coefficients)
        wild = model(system, start=5 * cold.density.coefficients + 1.0)
    assert warm.solution.iterations < cold.solution.iterations
    for other in (warm, wild):
        torch.testing.assert_close(
            other.density.coefficients, cold.density.coefficients, atol=1e-7, rtol=0
        )


def test_running_out_of_maps_is_an_error():
    with pytest.raises(SCFError, match=r"after 2 maps.*max_maps"):
        random_model("FixedPoint", update="gated")(
            example_system(NUMBERS, FREE), scf=SCFOptions(max_maps=2)
        )


def test_unknown_updates_are_refused():
    with pytest.raises(InputError, match=r"update='gate' is not known. Did you mean 'gated'\?"):
        FixedPoint(backbone={}, update="gate")


@pytest.mark.parametrize("pbc", [FREE, BULK, (True, True, False)])
def test_large_structures_get_the_same_numbers_without_matrices(pbc):
    """Energy, forces, stress and polarisability by the ladder and Krylov solves."""
    model = random_model("FixedPoint", update="gated")
    system = replace(example_system(NUMBERS, pbc), charge=tensor(1.0))
    stress = pbc != FREE
    direct, iterative = (
        energy_and_forces(partial(model, scf=SCFOptions(dense_limit=n)), system, stress=stress)
        for n in (1500, 0)
    )
    assert "Newton" in direct.prediction.solution.method
    assert iterative.prediction.solution.stages[1].name == "Anderson"
    close = partial(torch.testing.assert_close, atol=1e-6, rtol=0)
    close(iterative.prediction.energy, direct.prediction.energy)
    close(iterative.forces, direct.forces)
    close(iterative.stress, direct.stress)
    alphas = [
        polarizability(partial(model, scf=SCFOptions(dense_limit=n)), system) for n in (1500, 0)
    ]
    close(*alphas)
