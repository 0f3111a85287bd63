"""Molecular dynamics in a field and at fixed Fermi level conserves the energy that it should."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from builders import random_model

from asesc import CoulombCalculator, SCCalculator
from asesc.spectra import ContinuousMoment


def follow(atoms: Atoms, timestep: float, steps: int, *quantities) -> np.ndarray:
    """Values of functions without arguments after every step, (steps + 1, n)."""
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    values: list[list[float]] = []
    dynamics.attach(lambda: values.append([quantity() for quantity in quantities]))
    dynamics.run(steps)
    return np.array(values)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("SplitChargeEquilibration", {"electric_field": (0.1, 0.0, -0.2)}),
        ("SplitChargeEquilibration", {"fermi_level": -1.0, "electric_field": (0.0, 0.1, 0.0)}),
        ("QEq", {"fermi_level": -2.0}),
    ],
)
def test_energy_is_conserved(family, options):
    """In a field with −E·μ, at fixed Fermi level the grand energy; to second order in the step.

    Verlet's rule conserves the total energy up to a ripple proportional to Δt² only if the forces
    are the gradient of the very energy that is reported.
    """
    ripples = []
    for timestep in (0.06, 0.03):
        atoms = molecule("H2O")
        atoms.rattle(0.03, seed=1)
        atoms.calc = calc = SCCalculator(random_model(family), **options)
        atoms.set_velocities(0.02 * np.random.default_rng(2).normal(size=(3, 3)))
        total, potential, charge, level = follow(
            atoms,
            timestep,
            round(1.5 / timestep),
            atoms.get_total_energy,
            atoms.get_potential_energy,
            lambda calc=calc: calc.extras["charge"],
            lambda calc=calc: calc.results["fermi_level"],
        ).T
        ripples.append(np.ptp(total))
        assert np.ptp(potential) > 100 * ripples[-1]
    assert ripples[1] == pytest.approx(0.25 * ripples[0], rel=0.01)
    if "fermi_level" in options:
        np.testing.assert_allclose(level, options["fermi_level"], atol=1e-7)
        assert np.ptp(charge) > 1e-3
    else:
        np.testing.assert_allclose(charge, 0, atol=1e-8)
        assert np.ptp(level) > 1e-3


def test_the_dipole_of_drifting_ions_is_charge_times_way():
    """Ions that leave the cell on opposite sides and are wrapped carry a current without jumps."""
    salt = Atoms("NaCl", [(0.1, 2, 2), (2, 2, 2)], cell=(4, 4, 4), pbc=True)
    salt.calc = CoulombCalculator(charges={"Na": 0.8, "Cl": -0.8}, width=1.5)
    salt.set_velocities(np.array([[-0.1, 0, 0], [0.06, 0.03, 0]]) / units.fs)
    moment = ContinuousMoment(salt)
    dynamics = VelocityVerlet(salt, 0.5 * units.fs)
    way, moments = np.zeros((2, 3)), [moment()]
    for _ in range(60):
        before = salt.positions.copy()
        dynamics.run(1)
        way += salt.positions - before
        salt.wrap()
        moments.append(moment())
    assert np.abs(way).max(1).min() > 1.5
    np.testing.assert_allclose(moments[-1] - moments[0], 0.8 * (way[0] - way[1]), atol=1e-8)
    assert np.abs(np.diff(moments, axis=0)).max() < 0.2
