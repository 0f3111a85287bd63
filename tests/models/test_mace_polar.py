"""MACEPolar: the original's numbers in our signs, and what the original does not give."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from polar import MISSING, installed, needs_polar, polar_mace, random_polar

from asesc.errors import InputError, SetupError
from asesc.models import MACEPolar, mace_polar
from asesc.models.backbone import mace_environment, mace_inputs
from asesc.neighbors import find_edges
from asesc.response import energy_and_forces, polarizability
from asesc.system import System
from asesc.testing import example_system
from asesc.testing.structures import rotation

FREE, BULK = (False, False, False), (True, True, True)
NUMBERS = (14, 8, 8, 8, 1, 1)


def original(module, system: System, *, external_field=None):
    """Energy, charges and dipole of ``mace.modules.PolarMACE`` itself; positions must be a leaf."""
    edges = find_edges(system, float(module.r_max))
    inputs = mace_inputs(system, edges, module.atomic_numbers, torch.float64)
    ones = torch.ones(system.n_structures, dtype=torch.float64)
    electrons = system.sum(system.numbers.double()) - system.charge
    field = torch.zeros(system.n_structures, 3) if external_field is None else external_field
    inputs |= {
        "positions": system.positions,
        "cell": system.cell.flatten(0, 1),
        "rcell": (2 * torch.pi * torch.linalg.inv(system.cell.mT)).flatten(0, 1),
        "volume": system.volume,
        "pbc": torch.tensor([system.pbc] * system.n_structures),
        "total_charge": system.charge,
        "total_spin": 1 + electrons % 2 if system.spin is None else system.spin,
        "fermi_level": 0 * ones,
        "external_field": field.double(),
    }
    with mace_environment():  # it makes tensors of the default type
        return module(inputs, compute_force=False)


@needs_polar
@pytest.mark.parametrize("pbc", [FREE, BULK])
@pytest.mark.parametrize(("charge", "spin"), [(0.0, None), (1.0, 4.0), (-2.0, 3.0)])
def test_energy_forces_and_density_are_the_originals(pbc, charge, spin):
    module, model = polar_mace(), random_polar()
    system = example_system(NUMBERS, pbc)
    spins = None if spin is None else torch.tensor([spin], dtype=torch.float64)
    system = replace(system, charge=system.charge + charge, spin=spins)
    ours = energy_and_forces(model, system)
    leaf = replace(system, positions=system.positions.clone().requires_grad_())
    theirs = original(module, leaf)
    (gradient,) = torch.autograd.grad(theirs["energy"].sum(), leaf.positions)
    prediction = ours.prediction
    torch.testing.assert_close(prediction.energy, theirs["energy"], rtol=0, atol=1e-7)
    torch.testing.assert_close(ours.forces, -gradient, rtol=0, atol=1e-7)
    density = prediction.density.coefficients
    torch.testing.assert_close(
        density[:, [0, 2, 3, 1]], theirs["density_coefficients"], atol=1e-8, rtol=0
    )
    torch.testing.assert_close(prediction.spins, theirs["spins"], rtol=0, atol=1e-8)
    coulomb = prediction.contributions["coulomb"]
    torch.testing.assert_close(coulomb, theirs["electrostatic_energy"], rtol=0, atol=1e-8)


@needs_polar
def test_the_field_is_minus_maces_external_field():
    """Equal energies for opposite numbers; and ours is the one in which +q is pushed along E."""
    module, model = polar_mace(), random_polar()
    system = example_system(NUMBERS, FREE)
    field = torch.tensor([[0.03, -0.08, 0.05]], dtype=torch.float64)
    ours = model(replace(system, electric_field=field))
    theirs = original(module, system, external_field=-field)
    torch.testing.assert_close(ours.energy, theirs["energy"], rtol=0, atol=1e-7)
    torch.testing.assert_close(ours.dipole, theirs["dipole"], rtol=0, atol=1e-8)
    ion = System.from_atoms(Atoms("H", [(0.3, 0.1, -0.2)]), charge=1.0, electric_field=field[0])
    torch.testing.assert_close(energy_and_forces(model, ion).forces, field)


@needs_polar
def test_charges_and_spins_add_up():
    """To Q and to 2S, the number of unpaired electrons; open shells differ from closed ones."""
    model, system = random_polar(), example_system(NUMBERS, FREE)
    energies = []
    for spin in (1.0, 3.0):
        spins = torch.tensor([spin], dtype=torch.float64)
        with torch.no_grad():
            prediction = model(replace(system, spin=spins, charge=system.charge - 2))
        assert float(prediction.density.charges.sum()) == pytest.approx(-2, abs=1e-12)
        assert float(prediction.spins.sum()) == pytest.approx(spin - 1, abs=1e-12)
        energies.append(float(prediction.energy))
    assert abs(energies[1] - energies[0]) > 1e-2


@needs_polar
def test_the_lowest_multiplicity_is_the_default():
    model, system = random_polar(), example_system(NUMBERS, FREE)
    assert sum(NUMBERS) % 2 == 0
    for charge, unpaired in ((0.0, 0), (1.0, 1), (-1.0, 1), (2.0, 0)):
        with torch.no_grad():
            prediction = model(replace(system, charge=system.charge + charge))
        assert float(prediction.spins.sum()) == pytest.approx(unpaired, abs=1e-12)


@needs_polar
def test_the_dipole_is_not_minus_the_slope_of_the_energy():
    """Nothing makes a fixed number of updates stationary; the slope itself is exact."""
    model, system = random_polar(), example_system(NUMBERS, FREE)
    field = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    result = energy_and_forces(model, replace(system, electric_field=field))
    step, numerical = 1e-3, []
    for axis in torch.eye(3, dtype=torch.float64):
        up, down = (model(replace(system, electric_field=s * step * axis[None])) for s in (1, -1))
        numerical.append(-(up.energy - down.energy) / (2 * step))
    slope = torch.stack(numerical, dim=-1)
    torch.testing.assert_close(result.conjugate_dipole, slope, rtol=0, atol=1e-5)
    mismatch = (slope - result.prediction.dipole).detach().abs().max()
    assert float(mismatch) > 1e-3


@needs_polar
def test_polarizability_is_the_slope_of_the_dipole():
    model, system = random_polar(), example_system(NUMBERS, FREE)
    alpha, step = polarizability(model, system)[0], 1e-3
    for b, axis in enumerate(torch.eye(3, dtype=torch.float64)):
        up, down = (model(replace(system, electric_field=s * step * axis[None])) for s in (1, -1))
        slope = (up.dipole - down.dipole)[0] / (2 * step)
        torch.testing.assert_close(alpha[:, b], slope, rtol=0, atol=1e-5)


@needs_polar
def test_open_energies_turn_with_the_finite_differences_only():
    """Rotation changes them by little, and not at all for a model of charges alone."""
    turn = rotation()
    changes = []
    for model in (random_polar(), random_polar(multipoles=0)):
        system = example_system(NUMBERS, FREE)
        turned = replace(system, positions=system.positions @ turn.T)
        with torch.no_grad():
            changes.append(float((model(turned).energy - model(system).energy).abs()))
    assert 1e-7 < changes[0] < 1e-2
    assert changes[1] < 1e-10


@needs_polar
def test_the_distance_from_the_origin_costs_and_changes_nothing():
    """The original lists wave vectors of a box that grows with it."""
    model = random_polar()
    near = System.from_atoms(molecule("H2O"))
    far = replace(near, positions=near.positions + 1e5)
    torch.testing.assert_close(model(far).energy, model(near).energy, rtol=0, atol=1e-8)
    electrostatics = model._bind(far, "auto", 1e-10)
    assert model._inputs(far, electrostatics)["cell"].abs().max() < 1


@needs_polar
def test_is_rebuilt_and_computes_in_either_precision():
    """And leaves e3nn's and torch's settings as they were."""
    with mace_environment():
        import e3nn
    model, system = random_polar(multipoles=0), example_system(NUMBERS, BULK)
    before = torch.get_default_dtype(), e3nn.get_optimization_defaults()
    again = MACEPolar(**model.hyperparameters)
    assert (torch.get_default_dtype(), e3nn.get_optimization_defaults()) == before
    again.load_weights(model.weights())
    exact = model(system).energy
    torch.testing.assert_close(again(system).energy, exact, rtol=0, atol=1e-12)
    # float32 at the default type of torch, which must not reach the electrostatics.
    again.set_dtype(torch.float32)
    prediction = again(system)
    assert prediction.energy.dtype == torch.float64
    torch.testing.assert_close(prediction.energy, exact, rtol=0, atol=1e-4)


@needs_polar
def test_inputs_without_meaning_are_refused():
    model, bulk = random_polar(), example_system(NUMBERS, BULK)
    with pytest.raises(InputError, match="periodic cell vector"):
        model(replace(bulk, electric_field=torch.tensor([[0.0, 0.0, 0.1]], dtype=torch.float64)))
    with pytest.raises(InputError, match="MACEPolar has no ∂E/∂Q"):
        model(replace(bulk, fermi_level=torch.tensor([-4.0], dtype=torch.float64)))
    with pytest.raises(InputError, match=r"atomic numbers \[79\] are not in the model"):
        model(System.from_atoms(Atoms("Au")))


@needs_polar
def test_modules_that_would_lose_something_are_refused():
    with pytest.raises(InputError, match="need a mace PolarMACE module, got Linear"):
        MACEPolar.from_mace(torch.nn.Linear(1, 1))
    module = polar_mace(multipoles=0)
    module.field_feature_norms += 1.0
    try:
        with pytest.raises(InputError, match="'field_feature_norms' of the MACE module differs"):
            MACEPolar.from_mace(module)
    finally:
        module.field_feature_norms -= 1.0
    architecture = random_polar(multipoles=0).hyperparameters["architecture"]
    with pytest.raises(InputError, match="one of them with mace_select_head"):
        MACEPolar(architecture=architecture | {"heads": ["a", "b"]})
    with pytest.raises(InputError, match="atomic_multipoles_max_l=2"):
        MACEPolar(architecture=architecture | {"atomic_multipoles_max_l": 2})
    with pytest.raises(InputError, match=r"field_feature_widths=\[0\.9, 2\.0\]"):
        MACEPolar(architecture=architecture | {"field_feature_widths": [0.9, 2.0]})


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"graph-longrange": "0.4.4"}, "mace-torch 0.3.16 and graph-longrange 0.4.4"),
        ({"graph-longrange": None}, r"graph-longrange \(missing\)"),
        ({"mace-torch": "0.3.17"}, "mace-torch 0.3.17"),
    ],
)
def test_other_versions_are_refused_with_the_command(monkeypatch, found, named):
    monkeypatch.setattr(mace_polar, "_version", (mace_polar.TESTED | found).get)
    with pytest.raises(SetupError, match=named) as refused:
        MACEPolar(architecture={})
    assert str(refused.value).endswith("Run: pip install mace-torch==0.3.16 graph-longrange==0.4.0")


@pytest.mark.skipif(not MISSING, reason="the right versions are installed")
def test_the_versions_here_are_refused():
    with pytest.raises(SetupError, match="MACEPolar is tested with one pair of versions"):
        MACEPolar(architecture={})
    assert installed() != mace_polar.TESTED
