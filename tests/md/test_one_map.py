"""One map per step: the same trajectory as with converged densities, and when it gives way."""

import numpy as np
import pytest
from watched_water import dynamics, gentle_model, run

from asesc import SCCalculator
from asesc.errors import InputError
from asesc.md import DynamicsCalculator

FAMILIES = ("FixedPoint", "EnergyFunctional", "SplitChargeEquilibration")
STEPS = 30


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trajectory_is_that_of_converged_densities(family):
    model = gentle_model(family)
    reference = run(dynamics(SCCalculator(model)), STEPS)
    calculator = DynamicsCalculator(model)
    followed = run(dynamics(calculator), STEPS)
    counts = calculator.one_map.counts
    assert (counts.steps, counts.started, counts.fallbacks) == (STEPS + 1, 5, 0)
    assert counts.maps_per_step == 1
    fluctuation = np.std(reference["energy"])
    assert 0 < np.abs(followed["energy"] - reference["energy"]).max() < 0.05 * fluctuation
    assert np.abs(followed["forces"] - reference["forces"]).max() < 0.02
    assert calculator.scf.method == "one map"


@pytest.mark.parametrize("family", FAMILIES)
def test_without_matrices(family):
    """Large structures have a kernel of low rank; here one is treated like that."""
    model, scf = gentle_model(family), {"dense_limit": 0}
    reference = run(dynamics(SCCalculator(model, scf=scf)), STEPS)
    calculator = DynamicsCalculator(model, scf=scf)
    followed = run(dynamics(calculator), STEPS)
    counts = calculator.one_map.counts
    assert counts.kernels == 1
    assert counts.maps_per_step < 0.25 * reference["maps"][5:].mean()
    if family != "FixedPoint":  # whose random map is stiff enough to give way now and then
        assert (counts.fallbacks, counts.maps_per_step) == (0, 1)
    assert np.abs(followed["positions"] - reference["positions"]).max() < 1e-4


def test_energies_are_better_than_the_density():
    """Halving the step makes the error of the density four times, of the energy 16 times less."""

    def errors(step: float) -> tuple[float, float]:
        calculator = DynamicsCalculator(gentle_model("EnergyFunctional"))
        dyn = dynamics(calculator, step=step)
        dyn.run(12)
        exact = SCCalculator(gentle_model("EnergyFunctional")).evaluate(dyn.atoms)
        density = calculator.extras["multipoles"] - exact.extras["multipoles"]
        energy = calculator.results["energy"] - exact.results["energy"]
        return float(np.abs(density).max()), abs(float(energy))

    density, energy = errors(0.5)
    assert 1e-8 < density < 1e-3
    assert energy < 100 * density**2


def test_backwards_in_time():
    """With momenta reversed and the history running on, the atoms find their way back."""
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    start = dyn.atoms.positions.copy()
    dyn.run(25)
    away = np.abs(dyn.atoms.positions - start).max()
    dyn.atoms.set_momenta(-dyn.atoms.get_momenta())
    dyn.run(25)
    assert np.abs(dyn.atoms.positions - start).max() < 1e-3 * away


def test_jumps_and_other_atoms_begin_anew():
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    dyn.run(6)
    counts = calculator.one_map.counts
    assert counts.started == 5
    atoms = dyn.atoms.copy()
    atoms.positions[0] += 0.8
    atoms.calc = calculator
    jumped = atoms.get_forces()
    assert counts.started == 6
    exact = SCCalculator(gentle_model("FixedPoint")).evaluate(atoms).results["forces"]
    np.testing.assert_allclose(jumped, exact, atol=1e-9)
    twin = calculator.clone()
    assert twin.one_map is not calculator.one_map and twin.one_map.counts.steps == 0


def test_large_residuals_are_converged_and_counted():
    calculator = DynamicsCalculator(gentle_model("FixedPoint"), residual_limit=1e-12)
    dyn = dynamics(calculator)
    dyn.run(8)
    counts = calculator.one_map.counts
    assert counts.fallbacks == counts.steps - counts.started == 4
    assert calculator.scf.residual < 1e-8
    assert counts.maps_per_step > 1


def test_evaluations_beside_the_trajectory_do_not_disturb_it():
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    dyn.run(6)
    before = calculator.arrays()
    calculator.evaluate(dyn.atoms)
    calculator.get_polarizability(dyn.atoms)
    after = calculator.arrays()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_family_without_iterations():
    calculator = DynamicsCalculator(gentle_model("LocalCharges"))
    dynamics(calculator).run(3)
    assert calculator.one_map.counts.maps == 0
    with pytest.raises(InputError, match="must be positive"):
        DynamicsCalculator(gentle_model("LocalCharges"), residual_limit=0)


def test_large_charge_equilibration_starts_from_the_extrapolated_density():
    """Every step is converged, from nearer by than the last density."""
    scf = {"dense_limit": 0}
    plain = SCCalculator(gentle_model("QEq"), scf=scf)
    reference = run(dynamics(plain), 8)
    calculator = DynamicsCalculator(gentle_model("QEq"), scf=scf)
    followed = run(dynamics(calculator), 8)
    assert np.abs(followed["forces"] - reference["forces"]).max() < 1e-6
    assert calculator.scf.converged and followed["maps"].max() <= reference["maps"].max()
    assert calculator.scf.history[0] < 0.5 * plain.scf.history[0]
