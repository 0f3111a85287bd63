"""What distinguishes the families: who moves charge, how far, and what is conserved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from builders import FORMAL_CHARGES, NUMBERS, random_model

from asesc.errors import InputError, ModelFormatError
from asesc.models import FAMILIES
from asesc.response import energy_and_forces, polarizability
from asesc.system import System
from asesc.testing import example_system

FREE = (False, False, False)
BULK = (True, True, True)
VARIABLE = [name for name, family in FAMILIES.items() if family.has_variable_charge]
ITINERANT = [name for name, family in FAMILIES.items() if family.has_itinerant_polarisation]


@pytest.mark.parametrize("family", VARIABLE)
@pytest.mark.parametrize("charge", [-1.0, 0.0, 2.5])
def test_charges_add_up_and_differ(family, charge):
    system = example_system(NUMBERS, FREE)
    system = replace(system, charge=torch.tensor([charge], dtype=torch.float64))
    with torch.no_grad():
        density = random_model(family)(system).density
    assert float(density.charges.sum()) == pytest.approx(charge, abs=1e-10)
    oxygen = density.charges[system.numbers == 8]
    assert float(oxygen.std()) > 1e-3  # same element, different environment
    assert float(density.dipoles.norm(dim=-1).max()) > 1e-2


def test_fixed_charges_refuse_another_total():
    system = example_system(NUMBERS, FREE)
    model = random_model("FixedCharges")
    assert model(system).density.charges.tolist() == [FORMAL_CHARGES[z] for z in NUMBERS]
    with pytest.raises(InputError, match="fixed charges of structure 0 add up to 0 e"):
        model(replace(system, charge=system.charge + 1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pbc", [BULK, (True, True, False)])
def test_supercells_repeat_the_cell(family, pbc):
    system = example_system(NUMBERS, pbc)
    cell = system.cell.clone()
    cell[0, 0] *= 2
    double = replace(
        system,
        positions=torch.cat([system.positions, system.positions + system.cell[0, 0]]),
        numbers=system.numbers.repeat(2),
        cell=cell,
        batch=torch.zeros(2 * len(NUMBERS), dtype=torch.int64),
    )
    model = random_model(family)
    small = energy_and_forces(model, system, stress=True)
    large = energy_and_forces(model, double, stress=True)
    energy = small.prediction.energy.item()
    assert large.prediction.energy.item() == pytest.approx(2 * energy, abs=1e-7)
    torch.testing.assert_close(large.forces, small.forces.repeat(2, 1), atol=1e-7, rtol=0)
    torch.testing.assert_close(large.stress, small.stress, atol=1e-8, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_wrapping_an_atom_changes_nothing_but_the_quantum(family):
    """Itinerant polarisation jumps by q⁰h only; energies, forces and charges do not notice."""
    system = example_system(NUMBERS, BULK)
    wrapped = system.positions.clone()
    wrapped[0] += system.cell[0, 1]
    model = random_model(family)
    one, two = (energy_and_forces(model, s) for s in (system, replace(system, positions=wrapped)))
    torch.testing.assert_close(one.forces, two.forces, atol=1e-9, rtol=0)
    torch.testing.assert_close(one.prediction.energy, two.prediction.energy, atol=1e-9, rtol=0)
    if family in ITINERANT:
        jump = two.prediction.dipole[0] - one.prediction.dipole[0]
        quantum = FORMAL_CHARGES[NUMBERS[0]] * system.cell[0, 1]
        torch.testing.assert_close(jump, quantum, atol=1e-9, rtol=0)


@pytest.mark.parametrize("family", ITINERANT)
def test_polarisation_is_continuous_across_the_cell_boundary(family):
    """An atom that walks a full lattice vector comes back with its oxidation state moved."""
    system = example_system((14, 8, 8), BULK, seed=1)
    model = random_model(family)
    dipoles = []
    for step in np.linspace(0, 1, 81):
        positions = system.positions.clone()
        positions[0] += float(step) * system.cell[0, 0]
        with torch.no_grad():
            dipoles.append(model(replace(system, positions=positions)).dipole[0].numpy())
    steps = np.linalg.norm(np.diff(dipoles, axis=0), axis=1)
    assert steps.max() < 8 * np.median(steps)  # no jump, although neighbours come and go
    winding = dipoles[-1] - dipoles[0]
    np.testing.assert_allclose(winding, FORMAL_CHARGES[14] * system.cell[0, 0], atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_isolated_atoms_and_structures_without_edges(family):
    """No neighbour lists at all: single atoms, and atoms far apart, open or periodic."""
    model = random_model(family)
    charge = {"charge": 4.0} if family == "FixedCharges" else {}
    for pbc in (False, True):
        atom = Atoms("Si", cell=[12.0] * 3, pbc=pbc)
        system = System.from_atoms(atom, **charge)
        result = energy_and_forces(model, system, stress=pbc)
        assert torch.isfinite(result.prediction.energy).all()
        torch.testing.assert_close(result.forces, torch.zeros_like(result.forces))
        total = result.prediction.density.charges.sum()
        torch.testing.assert_close(total, system.charge[0])
    pair = Atoms("OH2", positions=[[0, 0, 0], [9.0, 0, 0], [0, 9.0, 0]])
    result = energy_and_forces(model, System.from_atoms(pair))
    assert torch.isfinite(result.forces).all()


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"MACEPolar"}))
def test_one_layer_makes_no_vectors_and_no_warning(family):
    backbone = random_model(family).hyperparameters["backbone"] | {"layers": 1}
    formal = {"formal_charges": {1: 1, 8: -2, 14: 4}} if family == "FixedCharges" else {}
    model = FAMILIES[family](backbone=backbone, **formal)
    assert model.backbone.n_vectors == 0
    water = System.from_atoms(molecule("H2O"))
    assert torch.isfinite(energy_and_forces(model, water).forces).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_energy_is_smooth_at_the_cutoff(family):
    """Force on an atom that leaves the cutoff: continuous, and equal to what is beyond."""
    model = random_model(family)
    charge = 1.0 if family == "FixedCharges" else 0.0

    def force(distance: float) -> float:
        atoms = Atoms("OSiH", positions=[[0, 0, 0], [1.6, 0, 0], [0, distance, 0]])
        system = System.from_atoms(atoms, charge=3.0 if charge else 0.0)
        return float(energy_and_forces(model, system).forces[2, 1])

    cutoff, step = model.cutoff, 1e-4
    inside, outside = force(cutoff - step), force(cutoff + step)
    slope = abs(force(cutoff + 3 * step) - outside) / (2 * step)
    assert abs(inside - outside) < 10 * (slope + 1e-3) * 2 * step


@pytest.mark.parametrize("family", FAMILIES)
def test_models_are_rebuilt_from_hyperparameters_and_weights_in_either_precision(family):
    """A float32 network moves energies by its rounding only; results stay float64."""
    model, system = random_model(family), example_system(NUMBERS, BULK)
    exact = energy_and_forces(model, system).prediction.energy
    again = FAMILIES[family](**model.hyperparameters)
    again.load_weights(model.weights())
    torch.testing.assert_close(
        energy_and_forces(again, system).prediction.energy, exact, rtol=0, atol=1e-12
    )
    again.set_dtype(torch.float32)
    for precision in (torch.float64, torch.float32):
        result = energy_and_forces(again, system.to(dtype=precision))
        energy = result.prediction.energy
        assert energy.dtype == torch.float64
        assert result.forces.dtype == precision
        torch.testing.assert_close(energy, exact, rtol=1e-5, atol=1e-5)


def test_foreign_weights_are_refused():
    model = random_model("QEq")
    weights = dict(model.weights())
    weights.pop("charge_head.net.0.weight")
    with pytest.raises(ModelFormatError, match=r"1 tensors are missing, e\.g\. 'charge_head"):
        model.load_weights(weights)
    with pytest.raises(ModelFormatError, match="unexpected"):
        model.load_weights(model.weights() | {"nonsense": torch.zeros(1)})
    with pytest.raises(ModelFormatError, match="of wrong shape"):
        model.load_weights(model.weights() | {"charge_head.net.0.bias": torch.zeros(1)})


def test_unknown_elements_are_refused():
    with pytest.raises(InputError, match=r"atomic numbers \[79\] are not in the model"):
        random_model("QEq")(System.from_atoms(Atoms("Au")))


def test_fields_along_periodic_directions_need_itinerant_polarisation():
    system = example_system(NUMBERS, BULK)
    field = torch.tensor([[0.0, 0.0, 0.1]], dtype=torch.float64)
    with pytest.raises(InputError, match="not defined"):
        random_model("QEq")(replace(system, electric_field=field))
    charged = replace(system, electric_field=field, charge=system.charge + 1)
    with pytest.raises(InputError, match="not defined"):
        random_model("SplitChargeEquilibration")(charged)


@pytest.mark.parametrize("family", ["LocalCharges", "SplitCharges", "FixedCharges"])
def test_read_out_families_do_not_respond(family):
    alpha = polarizability(random_model(family), example_system(NUMBERS, FREE))
    assert float(alpha.abs().max()) == 0


def test_the_order_of_elements_does_not_matter():
    """Tables per element follow the model's own list, whatever order the caller chose."""
    atoms = Atoms("NaCl", [(0, 0, 0), (0, 0, 2.4)])
    system = System.from_atoms(atoms)
    for elements in ([11, 8, 17], [17, 11], [8, 17, 11]):
        model = FAMILIES["FixedCharges"](
            backbone={"elements": elements, "cutoff": 3.0, "channels": 2},
            formal_charges={8: -2, 11: 1, 17: -1},
            atomic_energies={8: -8.0, 11: -11.0, 17: -17.0},
        )
        assert model(system).density.charges.tolist() == [1.0, -1.0]
        assert model._energies[model.backbone.index_of(system.numbers)].tolist() == [-11.0, -17.0]
    with pytest.raises(InputError, match="distinct atomic numbers"):
        FAMILIES["LocalCharges"](backbone={"elements": [1, 1], "cutoff": 3.0})


def test_elements_are_known_by_symbol_or_number():
    cards = [
        FAMILIES["FixedCharges"](
            backbone={"elements": [na, cl], "cutoff": 3.0, "channels": 2},
            formal_charges={na: 1, cl: -1},
            atomic_energies={na: -11.0, cl: -17.0},
            width={na: 0.9, cl: 1.1},
        ).hyperparameters
        for na, cl in ((11, 17), ("Na", "Cl"), ("11", "17"))
    ]
    tables = ("formal_charges", "atomic_energies", "width")
    for card in cards:
        assert {key: card[key] for key in tables} == {key: cards[0][key] for key in tables}


@pytest.mark.parametrize(
    ("table", "message"),
    [({"Xy": 1}, "'Xy' is neither"), ({0: 1}, "0 is neither"), ({"Na": "one"}, "not a table")],
)
def test_tables_that_are_not_per_element_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        FAMILIES["SplitCharges"](backbone={"elements": [11]}, formal_charges=table)
