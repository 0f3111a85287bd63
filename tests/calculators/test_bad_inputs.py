"""Mistakes that people make, and the message that each deserves."""

import logging
import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators import calculator as ase_errors
from builders import random_model

from asesc import SCCalculator
from asesc.calculators import evaluation
from asesc.errors import (
    IllPosedError,
    InputError,
    ModelFormatError,
    ModelNotFoundError,
    ModelScopeError,
    PropertyUnavailableError,
    SCFError,
    SetupError,
)
from asesc.models import Prediction
from asesc.solvers import Solution


def make(family="SplitChargeEquilibration", **options) -> SCCalculator:
    return SCCalculator(random_model(family), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chrage": 1}, TypeError, r"no parameter 'chrage'\. Did you mean 'charge'\?"),
        ({"charge": "+1"}, InputError, r"charge must be one finite number.*got '\+1'"),
        ({"charge": float("nan")}, InputError, "one finite number"),
        ({"charge": [1]}, InputError, "one finite number"),
        ({"charge": 10**400}, InputError, "one finite number"),
        ({"charge": np.array("1")}, InputError, "one finite number"),
        ({"charge": np.complex128(1 + 1j)}, InputError, "one finite number"),
        ({"charge": torch.ones((), requires_grad=True)}, InputError, "one finite number"),
        ({"charge": None}, InputError, "one finite number"),
        ({"spin": 2}, InputError, r"spin=2, but model .* has no spin input: the number would be"),
        ({"fermi_level": "-4.4"}, InputError, "Fermi level in eV, or None for a fixed charge"),
        ({"scf": {"tol": 1}}, InputError, "scf has no option 'tol'"),
        ({"scf": "fast"}, InputError, "scf must be a mapping of options to numbers, got 'fast'"),
        ({"electric_field": 0.1}, InputError, r"3 numbers in V/Å; got shape \(\)"),
        ({"electric_field": [[0, 0, 0.1]]}, InputError, r"got shape \(1, 3\)\. Give one vector"),
        ({"electric_field": (0, 0, 5e8)}, InputError, r"looks like V/m \(= 0\.05 V/Å\)"),
        ({"electric_field": (0, 0, 51.4)}, InputError, "check the units .1 atomic unit = 51.4"),
        ({"electric_field": (0, 0, np.inf)}, InputError, "3 finite numbers in V/Å"),
        ({"boundary": "perodic"}, InputError, r"'perodic' is not known\. Did you mean 'periodic'"),
        ({"dtype": "float46"}, InputError, "dtype='float46'; choose 'float64'"),
        ({"device": "gpu"}, SetupError, "device='gpu' is not a device"),
        ({"device": None}, SetupError, "device=None is not a device"),
        ({"device": "meta"}, SetupError, "device='meta' is not a device for numbers of"),
        ({"device": "cuda:99"}, SetupError, "device='cuda:99' but torch .* sees . GPUs; use"),
    ],
)
def test_parameters(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"charge": 1, "total_charge": 0}, "'charge'=1 and 'total_charge'=0, .* keep one"),
        (
            {"electric_field": (0, 0, 0.1), "external_field": (0, 0, -0.1)},
            "signs are opposite .* keep one",
        ),
        ({"charge": 0.5}, r"charge \+0\.5 e \(from atoms\.info\['charge'\]\) is not an integer"),
        ({"charge": True}, "one finite number"),
        ({"charge": np.True_}, "one finite number"),
        ({"electric_field": [True, False, False]}, "must be 3 finite numbers"),
        ({"spin": 2}, r"atoms\.info\['spin'\]=2, but model .* no spin input"),
        ({"multiplicity": 1}, r"atoms\.info\['multiplicity'\]=1"),
        ({"electric_field": "up"}, r"atoms\.info\['electric_field'\] must be 3 finite numbers"),
        ({"external_field": (0, 0, 9)}, "where matter ionises"),
    ],
)
def test_info(info, message, water):
    water.info.update(info)
    with pytest.raises(InputError, match=message):
        make().get_potential_energy(water)


def test_synonyms_that_agree_are_fine(water):
    water.info.update(charge=1, total_charge=1.0)
    calculator = make()
    calculator.get_potential_energy(water)
    assert calculator.extras["charge"] == 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("Charge", "charge"),
        ("total charge", "total_charge"),
        ("chrage", "charge"),
        ("electric-field", "electric_field"),
        ("efield", "electric_field"),
        ("net_charge", "charge"),
        ("mult", "multiplicity"),
        ("total_spin", "spin"),
        ("elec_field", "electric_field"),
        ("charge_site", "charge_sites"),
    ],
)
def test_near_misses_in_info_are_told_once(key, meant, water):
    calculator = make()
    water.info[key] = 1
    with pytest.warns(UserWarning, match=re.escape(f"atoms.info[{key!r}] looks like {meant!r}")):
        calculator.get_potential_energy(water)
    water.rattle(0.01)
    calculator.get_potential_energy(water)


def test_other_keys_of_info_are_left_alone(water):
    water.info.update(name="a", config_type="b", energy=1.0, REF_dipole=(0, 0, 1), field_id=3)
    water.info["REF_fermi_level"] = -4.0  # a label to train on
    water.info[7] = "not even a text"
    make().get_potential_energy(water)


def test_a_charge_that_overrides_another_is_logged(water, caplog):
    water.info["charge"] = -1
    with caplog.at_level(logging.INFO, logger="asesc"):
        make(charge=1).get_potential_energy(water)
    assert "charge -1 from atoms.info['charge'] overrides the calculator's +1" in caplog.text


def test_fractional_charge_when_it_is_meant(water):
    calculator = make("QEq", charge=0.5, allow_fractional_charge=True)
    calculator.get_potential_energy(water)
    assert calculator.results["charges"].sum() == pytest.approx(0.5)


def test_initial_charges_are_not_the_total_charge(water):
    water.set_initial_charges([1, 0, 0])
    with pytest.warns(
        UserWarning, match=r"sum to \+1 but the total charge is taken as 0.*charge=1"
    ):
        make().get_potential_energy(water)
    water.info["charge"] = 0
    make().get_potential_energy(water)


def test_charge_that_fixed_charges_cannot_have(water):
    with pytest.raises(InputError, match="fixed charges of structure 0 add up to 0 e"):
        make("FixedCharges", charge=1).get_potential_energy(water)


def test_scope_of_the_card(registry, water):
    calculator = SCCalculator("tiny")
    for options, message in (
        ({"charge": 4}, r"charge \+4 e \(from calculator\) is outside the trained range -1 … \+1"),
        ({"electric_field": (0, 0, 0.3)}, r"field of 0\.3 V/Å .* trained range 0 … 0\.2 V/Å"),
    ):
        calculator.set(charge=0, allow_extrapolation=False)
        calculator.set(**options)
        with pytest.raises(ModelScopeError, match=message + r".*allow_extrapolation=True"):
            calculator.get_potential_energy(water)
        calculator.set(allow_extrapolation=True)
        calculator.get_potential_energy(water)


def test_boundary_outside_the_card(registry, sheet):
    calculator = SCCalculator("tiny")
    with pytest.raises(ModelScopeError, match=r"'slab' is outside the scope .* open, periodic"):
        calculator.get_potential_energy(sheet)
    calculator.set(allow_extrapolation=True)
    calculator.get_potential_energy(sheet)


def test_another_engine_for_a_boundary_is_within_its_scope(registry, water):
    calculator = SCCalculator("tiny")
    direct = calculator.get_potential_energy(water)
    calculator.set(boundary="open-reciprocal")
    assert calculator.get_potential_energy(water) == pytest.approx(direct, abs=1e-6)


def test_unknown_element(registry, monkeypatch):
    (registry / "broken").mkdir()
    (registry / "broken" / "card.json").write_text("{}")
    with pytest.raises(
        ModelScopeError, match=r"Xe is not in model 'tiny', which knows H O Si. .* none installed"
    ):
        SCCalculator("tiny", allow_extrapolation=True).get_potential_energy(Atoms("Xe"))
    with pytest.raises(ModelScopeError, match="atomic number 200 is not in model 'tiny'"):
        SCCalculator("tiny").get_potential_energy(Atoms(numbers=[200]))
    other = make("FixedCharges")
    monkeypatch.setattr(other.model.backbone, "elements", (1, 8))
    with pytest.raises(ModelScopeError, match=r"Models that have it: .*tiny"):
        other.get_potential_energy(Atoms("Si"))


def test_field_along_a_periodic_direction(silica):
    with pytest.raises(
        InputError, match=r"along the periodic cell vector .* itinerant polarisation"
    ):
        make("QEq", electric_field=(0, 0, 0.1)).get_potential_energy(silica)


def test_boundary_against_pbc(water):
    with pytest.raises(InputError, match=r"boundary='periodic' contradicts atoms.pbc"):
        make(boundary="periodic").get_potential_energy(water)


def test_charged_cell(silica):
    calculator = make(charge=1)
    with pytest.warns(UserWarning, match=r"charge \+1 in a periodic cell .* uniform background"):
        calculator.get_potential_energy(silica)
    with pytest.raises(PropertyUnavailableError, match="charged cell depends on the origin"):
        calculator.get_property("polarization", silica)


@pytest.mark.parametrize(
    ("name", "value"), [("dtype", "float32"), ("device", "cpu"), ("model", "quartz")]
)
def test_parameters_that_take_another_opening_are_not_edited(water, name, value):
    calculator = make()
    calculator.parameters[name] = value
    with pytest.raises(InputError, match=rf"changed in place .* calc\.set\({name}='{value}'\)"):
        calculator.get_potential_energy(water)


def test_a_scan_of_charges_is_told_once(silica):
    calculator = make(allow_fractional_charge=True)
    silica.calc = calculator
    with pytest.warns(UserWarning, match="uniform background") as told:
        for charge in (0.5, 1.0, 2.0):
            silica.info["charge"] = charge
            silica.get_potential_energy()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("becs", "ASE's name is 'born_effective_charges'"),
        ("dipole_moment", "ASE's name is 'dipole'"),
        ("hessian", r"call calc\.get_hessian\(atoms\)"),
        ("polarisability", r"call calc\.get_polarizability\(atoms\)"),
        ("forcse", "Did you mean 'forces'"),
        ("stresses", "It offers energy, free_energy"),
        ("magmoms", "SplitChargeEquilibration has no spin, hence no magmoms"),
    ],
)
def test_names_of_properties(name, message, water):
    with pytest.raises(PropertyUnavailableError, match=message):
        make().get_property(name, water)


def test_unknown_names_are_refused_by_every_way_to_evaluate(water):
    calculator = make()
    ways = (calculator.evaluate, calculator.calculate)
    for ask in (*ways, lambda a, p: calculator.evaluate_many([a], p)):
        with pytest.raises(PropertyUnavailableError, match="Did you mean 'forces'"):
            ask(water, ["energy", "forcse"])
        with pytest.raises(InputError, match="is one name, not a collection of names"):
            ask(water, "energy")


def test_an_ion_without_masses_has_a_dipole_about_its_middle(water):
    water.set_masses([0, 0, 0])
    calculator = make(charge=1)
    outcome = calculator.evaluate(water)
    np.testing.assert_allclose(outcome.extras["dipole_origin"], water.positions.mean(axis=0))
    assert np.isfinite(outcome.results["dipole"]).all()


def test_properties_that_a_boundary_does_not_have(water, silica, sheet):
    calculator = make()
    for name, atoms, message in (
        ("stress", water, "'stress' is undefined .* no cell to strain"),
        ("polarization", water, "three periodic directions.* ask for 'dipole'"),
        ("dielectric_tensor", water, "ask for the polarizability"),
        ("dipole", silica, "'dipole' is not defined for pbc=TTT.* Use 'polarization'"),
    ):
        with pytest.raises(ase_errors.PropertyNotImplementedError, match=message):
            calculator.get_property(name, atoms)
    with pytest.raises(PropertyUnavailableError, match="has no polarisation in a periodic cell"):
        make("LocalCharges").get_property("polarization", silica)
    sheet.cell[2] = 0
    calculator.get_potential_energy(sheet)
    with pytest.raises(PropertyUnavailableError, match=r"no volume\. Give the slab a height"):
        calculator.get_property("stress", sheet)


def test_models(registry, tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"No model 'tinny'. Did you mean 'tiny'"):
        SCCalculator("tinny")
    with pytest.raises(ModelFormatError, match="is a pickle by its name"):
        SCCalculator(tmp_path / "x.model")
    weights = registry / "tiny" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ModelFormatError, match="sha256"):
        SCCalculator("tiny")
    with pytest.raises(InputError, match=r"must be a name, a folder or an asesc.models.Potential"):
        SCCalculator(torch.nn.Linear(1, 1))


def _spoilt(monkeypatch, **changes):
    """Let every evaluation return a prediction with some fields replaced."""
    original = evaluation.energy_and_forces

    def spoil(*args, **kwargs):
        outcome = original(*args, **kwargs)
        fields = {**vars(outcome.prediction), **changes}
        return type(outcome)(Prediction(**fields), outcome.forces, outcome.stress)

    monkeypatch.setattr(evaluation, "energy_and_forces", spoil)


def test_not_a_number_is_an_error(monkeypatch, water):
    _spoilt(monkeypatch, energy=torch.tensor([torch.nan]))
    with pytest.raises(IllPosedError, match="'energy' of these 3 atoms is not finite"):
        make().get_forces(water)


def test_an_unconverged_density_is_an_error(monkeypatch, water):
    _spoilt(monkeypatch, solution=Solution("CG", False, 9, 0.1, history=(1.0, 0.1)))
    with pytest.raises(SCFError, match="NOT converged after 9 iterations") as caught:
        make().get_forces(water)
    assert caught.value.history == (1.0, 0.1)
    assert isinstance(caught.value, ase_errors.SCFError)


def test_responses_that_are_not_numbers_are_errors(monkeypatch, water):
    from asesc.calculators import responses

    monkeypatch.setattr(responses, "hessian", lambda *a, **k: torch.full((9, 9), torch.nan))
    with pytest.raises(IllPosedError, match="'hessian' of these 3 atoms is not finite"):
        make().get_hessian(water)


def test_a_sane_molecule_raises_no_doubt():
    make().get_potential_energy(molecule("H2O"))
